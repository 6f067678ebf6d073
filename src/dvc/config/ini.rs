//! The INI dialect of DVC's config files (`ConfigObj` 5): reading and writing.
//!
//! ```text
//! [core]                          a section; `[[x]]` nests
//!     remote = storage            # a comment
//!     "quoted key" = 'a # value'
//! ['remote "storage"']            a quoted name
//!     url = ../store
//!     type = reflink, copy        a list; one item: `copy,`
//!     note = """several
//!     lines"""
//!     also = %(url)s/x            another value of the section, of its `DEFAULT` or of a section around it
//! ```

use indexmap::IndexMap;

use super::ConfigError;
use crate::diagnostic::Place;

/// What stands under a name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Text(String),
    List(Vec<String>),
    Section(Section),
}

/// An item and where it was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub item: Item,
    pub place: Place,
}

/// Entries in file order. Neither it nor its parts have `Debug`: a config holds passwords.
pub(crate) type Section = IndexMap<String, Entry>;

/// Parses a file; `path` is how errors name it.
pub(crate) fn parse(path: &str, text: &str) -> Result<Section, ConfigError> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.lines().collect();
    let mut root = Section::new();
    let mut current: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let place = Place { path: path.to_owned(), line: Some(at + 1), column: None };
        let error = |message: &str| ConfigError::new(place.clone(), message);
        at += 1;
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(marker) = section_marker(line) {
            if marker.opened != marker.closed {
                return Err(error("as many `]` are needed as there are `[`"));
            }
            if marker.opened > current.len() + 1 {
                return Err(error("the section is nested too deeply"));
            }
            current.truncate(marker.opened - 1);
            insert(&mut root, &current, marker.name, Item::Section(Section::new()), place)?;
            current.push(marker.name.to_owned());
            continue;
        }
        let (key, value) = keyword(line).ok_or_else(|| error("neither a section nor `key = value`"))?;
        let item = if value.starts_with("'''") || value.starts_with("\"\"\"") {
            multiline(value, &lines, &mut at).ok_or_else(|| error("the quotes do not end well"))?
        } else {
            single_line(value).ok_or_else(|| error("the value has stray quotes or commas"))?
        };
        insert(&mut root, &current, key, item, place)?;
    }
    interpolate(&root)
}

fn insert(root: &mut Section, path: &[String], name: &str, item: Item, place: Place) -> Result<(), ConfigError> {
    let section = path.iter().fold(root, |section, name| match &mut section[name].item {
        Item::Section(inner) => inner,
        Item::Text(_) | Item::List(_) => unreachable!("the open sections are sections"),
    });
    if section.contains_key(name) {
        return Err(ConfigError::new(place, format!("`{name}` is there twice")));
    }
    section.insert(name.to_owned(), Entry { item, place });
    Ok(())
}

struct SectionMarker<'a> {
    name: &'a str,
    opened: usize,
    closed: usize,
}

/// Matches `[name]`, `[[name]]` and so on; the shortest name that leaves only brackets and a comment wins.
fn section_marker(line: &str) -> Option<SectionMarker<'_>> {
    let mut rest = line.trim_start();
    let mut opened = 0;
    while let Some(inner) = rest.strip_prefix('[') {
        opened += 1;
        rest = inner.trim_start();
    }
    if opened == 0 {
        return None;
    }
    let closing = |end: usize| {
        let mut tail = &rest[end..];
        let mut closed = 0;
        while let Some(inner) = tail.trim_start().strip_prefix(']') {
            closed += 1;
            tail = inner;
        }
        (closed > 0 && is_comment(tail)).then_some(closed)
    };
    let found = |end: usize| closing(end).map(|closed| SectionMarker { name: unquote(&rest[..end]), opened, closed });
    if rest.starts_with(['"', '\'']) {
        quoted_ends(rest).filter(|end| !rest[1..end - 1].trim().is_empty()).find_map(found)
    } else {
        rest.char_indices().map(|(start, c)| start + c.len_utf8()).find_map(found)
    }
}

/// Splits `key = value`; the value keeps its comment.
fn keyword(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    if line.starts_with(['"', '\'']) {
        return quoted_ends(line).find_map(|end| {
            let value = line[end..].trim_start().strip_prefix('=')?;
            Some((unquote(&line[..end]), value.trim_start()))
        });
    }
    let (key, value) = line.split_once('=')?;
    (!key.is_empty()).then(|| (unquote(key.trim_end()), value.trim_start()))
}

/// The ends of `text` up to each quote like its first, shortest first.
fn quoted_ends(text: &str) -> impl Iterator<Item = usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    text.char_indices().skip(1).filter(move |(_, c)| Some(*c) == quote).map(|(start, _)| start + 1)
}

fn is_comment(tail: &str) -> bool {
    let tail = tail.trim_start();
    tail.is_empty() || tail.starts_with('#')
}

fn unquote(text: &str) -> &str {
    let quoted = text.len() >= 2 && text.starts_with(['"', '\'']) && text.chars().next_back() == text.chars().next();
    if quoted { &text[1..text.len() - 1] } else { text }
}

/// Reads a value in triple quotes that begins on the line before `at`; leaves `at` behind its last line.
fn multiline(value: &str, lines: &[&str], at: &mut usize) -> Option<Item> {
    let (quote, first) = value.split_at(3);
    let end_in = |line: &str| {
        let mut ends = line.char_indices().map(|(end, _)| end).filter(|end| line[*end..].starts_with(quote));
        ends.find(|end| is_comment(&line[end + 3..])).map(|end| line[..end].to_owned())
    };
    if first.contains(quote) {
        return end_in(first).map(Item::Text);
    }
    let mut text = first.to_owned();
    while let Some(line) = lines.get(*at) {
        *at += 1;
        text.push('\n');
        if line.contains(quote) {
            text.push_str(&end_in(line)?);
            return Some(Item::Text(text));
        }
        text.push_str(line);
    }
    None
}

/// Reads a text or a list, both without comment.
fn single_line(value: &str) -> Option<Item> {
    let mut items = Vec::new();
    match list_items(value, &mut items) {
        Some(Last::Text(text)) if items.is_empty() => Some(Item::Text(text)),
        Some(Last::Nothing) if items.is_empty() => Some(Item::Text(String::new())),
        Some(Last::Text(text)) => Some(Item::List(items.into_iter().chain([text]).collect())),
        Some(Last::Nothing) => Some(Item::List(items)),
        None => value.strip_prefix(',').filter(|tail| is_comment(tail)).map(|_| Item::List(vec![])),
    }
}

/// What follows the last comma of a value.
enum Last {
    Text(String),
    Nothing,
}

/// Matches items that end in a comma, as many as possible, and what follows them.
fn list_items(rest: &str, items: &mut Vec<String>) -> Option<Last> {
    let quoted = rest.starts_with(['"', '\'']);
    let bare = rest.find([',', '#']).filter(|end| !quoted && *end > 0);
    for end in quoted_ends(rest).chain(bare) {
        if let Some(tail) = rest[end..].trim_start().strip_prefix(',') {
            items.push(unquote(rest[..end].trim_end()).to_owned());
            if let Some(last) = list_items(tail.trim_start(), items) {
                return Some(last);
            }
            items.pop();
        }
    }
    if quoted {
        let end = quoted_ends(rest).find(|end| is_comment(&rest[*end..]))?;
        return Some(Last::Text(unquote(&rest[..end]).to_owned()));
    }
    let text = rest.split('#').next().unwrap_or_default().trim_end();
    match text {
        "" => Some(Last::Nothing),
        text if text.contains(',') => None,
        text => Some(Last::Text(text.to_owned())),
    }
}

/// Replaces every `%(name)s`.
fn interpolate(root: &Section) -> Result<Section, ConfigError> {
    fn section(scope: &[&Section]) -> Result<Section, ConfigError> {
        let inner = scope.last().expect("the root is always there");
        let entries = inner.iter().map(|(name, entry)| {
            let replace =
                |text: &String| replace(text, scope, 0).map_err(|what| ConfigError::new(entry.place.clone(), what));
            let item = match &entry.item {
                Item::Text(text) => Item::Text(replace(text)?),
                Item::List(items) => Item::List(items.iter().map(replace).collect::<Result<_, _>>()?),
                Item::Section(inner) => Item::Section(section(&[scope, &[inner]].concat())?),
            };
            Ok((name.clone(), Entry { item, place: entry.place.clone() }))
        });
        entries.collect()
    }
    section(&[root])
}

/// A chain of `%(name)s` longer than this is taken for a loop.
const INTERPOLATION_DEPTH: usize = 32;

fn replace(text: &str, scope: &[&Section], depth: usize) -> Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = reference(rest) {
        if depth == INTERPOLATION_DEPTH {
            return Err(format!("`%({name})s` refers to itself"));
        }
        let (value, scope) = fetch(name, scope).ok_or_else(|| format!("`%({name})s` has no value"))?;
        done.push_str(before);
        done.push_str(&replace(value, scope, depth + 1)?);
        rest = after;
    }
    Ok(done + rest)
}

/// Splits at the first `%(name)s`.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices("%(").find_map(|(start, _)| {
        let (name, after) = text[start + 2..].split_once(')')?;
        Some((&text[..start], name, after.strip_prefix('s')?))
    })
}

/// Looks a text up in the innermost section, its `DEFAULT`, then in the sections around it.
fn fetch<'a, 'b>(name: &str, scope: &'b [&'a Section]) -> Option<(&'a str, &'b [&'a Section])> {
    let text = |section: &'a Section| match &section.get(name)?.item {
        Item::Text(text) => Some(text.as_str()),
        Item::List(_) | Item::Section(_) => None,
    };
    let default = |section: &'a Section| match &section.get("DEFAULT")?.item {
        Item::Section(inner) => text(inner),
        Item::Text(_) | Item::List(_) => None,
    };
    (1..=scope.len()).rev().find_map(|depth| {
        let section = scope[depth - 1];
        Some((text(section).or_else(|| default(section))?, &scope[..depth]))
    })
}

/// Writes a file that reads back as these sections; fails with the name of what cannot be written.
pub(crate) fn render(root: &Section) -> Result<String, String> {
    let mut out = String::new();
    render_section(root, 0, &mut out)?;
    Ok(out)
}

fn render_section(section: &Section, depth: usize, out: &mut String) -> Result<(), String> {
    let indent = "    ".repeat(depth);
    for (name, entry) in section {
        let value = match &entry.item {
            Item::Text(text) => quote(text, Lines::Any),
            Item::List(items) if items.is_empty() => Some(",".to_owned()),
            Item::List(items) => {
                let items = items.iter().map(|item| Some(quote(item, Lines::One)? + ","));
                items.collect::<Option<Vec<_>>>().map(|items| items.join(" "))
            }
            Item::Section(_) => continue,
        };
        let (key, value) = quote(name, Lines::One).zip(value).ok_or_else(|| name.clone())?;
        out.extend([&indent, key.as_str(), " = ", &value, "\n"]);
    }
    for (name, entry) in section {
        if let Item::Section(inner) = &entry.item {
            let (open, close) = ("[".repeat(depth + 1), "]".repeat(depth + 1));
            let quoted = quote(name, Lines::One).ok_or_else(|| name.clone())?;
            out.extend([&indent, open.as_str(), &quoted, &close, "\n"]);
            render_section(inner, depth + 1, out)?;
        }
    }
    Ok(())
}

/// Whether a text can be a value that reads back as it is.
pub(crate) fn is_writable(text: &str) -> bool {
    quote(text, Lines::Any).is_some()
}

/// Whether triple quotes, which may go over several lines, are understood at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    One,
    Any,
}

/// Ends of lines for Python's `str.splitlines`, which reads the file; within quotes only `\n` stays what it is.
const OTHER_LINE_ENDS: [char; 9] =
    ['\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Quotes a text; `None` where it cannot be written: there are no escapes, and `%(name)s` always means another value.
fn quote(text: &str, lines: Lines) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || "_-./:@+~%()=&?".contains(c);
    if reference(text).is_some() || text.contains(OTHER_LINE_ENDS) {
        return None;
    }
    let delimiter = if !text.is_empty() && !text.starts_with('=') && text.chars().all(plain) {
        ""
    } else if text.contains('\n') || text.contains('"') && text.contains('\'') {
        ["\"\"\"", "'''"].into_iter().find(|quote| lines == Lines::Any && !text.contains(quote))?
    } else if text.contains('"') {
        "'"
    } else {
        "\""
    };
    Some(format!("{delimiter}{text}{delimiter}"))
}
