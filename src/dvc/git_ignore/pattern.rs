//! A line of a `.gitignore`, and what it matches.
//!
//! `dulwich/wildmatch.py` makes regular expressions; what these accept is told here by a list of [`Step`]s. All ways
//! through the list are followed at once, so the work grows with the text times the pattern, whatever the pattern is.

/// One part of a pattern, in the words of regular expressions.
#[derive(Debug)]
enum Step {
    /// That byte.
    Byte(u8),
    /// One byte of a set.
    Set(Box<[bool; 256]>),
    /// `[^/]*`
    Within,
    /// `.*`
    Everything,
    /// `.*/`
    Below,
    /// The next step may be left out.
    Maybe,
    /// `([^/]+/)*`, together with the next step.
    Levels,
    /// Inside of one of these names.
    InLevel,
}

/// A line, compiled.
#[derive(Debug)]
pub(super) struct Pattern {
    pub negated: bool,
    /// It ended in a slash.
    directories_only: bool,
    /// It ended in `/*` or `/**`, and so names what a directory holds.
    is_about_contents: bool,
    folds_case: bool,
    /// Without the slashes at the end.
    name: Vec<Step>,
    /// With them.
    whole: Vec<Step>,
}

impl Pattern {
    /// Compiles a line without its line break; `None` for one that matches nothing, as `/`, or with a `[` left open.
    pub(super) fn compile(line: &[u8], folds_case: bool) -> Option<Pattern> {
        let (negated, text) = match line {
            [b'!', text @ ..] => (true, text),
            [b'\\', b'!' | b'#', ..] => (false, &line[1..]),
            text => (false, text),
        };
        let end = text.iter().rposition(|byte| *byte != b'/')? + 1;
        let name = &text[..end];
        Some(Pattern {
            negated,
            directories_only: text.ends_with(b"/"),
            is_about_contents: name.ends_with(b"/*") || name.ends_with(b"/**"),
            folds_case,
            name: translate(name, folds_case)?,
            whole: translate(text, folds_case)?,
        })
    }

    /// Whether the line names a file or directory, given relative to the directory of its file.
    pub(super) fn names(&self, name: &[u8], is_dir: bool) -> bool {
        (is_dir || !self.directories_only) && accepts(&self.name, name, self.folds_case)
    }

    /// Whether the line is about what a directory holds.
    pub(super) fn reaches_into(&self, directory: &[u8]) -> bool {
        self.is_about_contents && [&b"/x"[..], b"/x/"].iter().any(|inner| self.matches(&[directory, inner].concat()))
    }

    /// Matches a path with the slash that it was asked about with.
    fn matches(&self, path: &[u8]) -> bool {
        let is_dir = path.ends_with(b"/");
        if self.directories_only && self.negated && !is_dir {
            return false;
        }
        if accepts(&self.whole, path, self.folds_case) {
            return true;
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..=slash]);
        self.directories_only && !is_dir && parent.is_some_and(|parent| accepts(&self.whole, parent, self.folds_case))
    }
}

/// `(.*/)?`
const ABOVE: [Step; 2] = [Step::Maybe, Step::Below];

/// Compiles a line without what is before and around it; `None` if git gives it up.
fn translate(pattern: &[u8], folds_case: bool) -> Option<Vec<Step>> {
    let mut steps = vec![];
    let has_inner_slash = pattern.split_last().is_some_and(|(_, before)| before.contains(&b'/'));
    if !has_inner_slash {
        steps.extend(ABOVE);
    }
    let rest = match pattern {
        [b'/', b'*', b'*', b'/', rest @ ..] | [b'*', b'*', b'/', rest @ ..] => {
            steps.extend(ABOVE);
            rest
        }
        [b'/', rest @ ..] => rest,
        rest => rest,
    };
    let mut segments = segments(rest)?;
    segments.dedup_by(|a, b| *a == b"**" && a == b);
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 && segments[index - 1] != b"**" {
            steps.push(Step::Byte(b'/'));
        }
        if *segment == b"**" {
            let after = &segments[index + 1..];
            match (index, after) {
                (_, []) => steps.push(Step::Everything),
                (_, after) if after.iter().all(|segment| segment.is_empty()) => steps.push(Step::Below),
                (0, _) => steps.extend(ABOVE),
                _ => steps.extend([Step::Levels, Step::InLevel]),
            }
        } else {
            name(segment, folds_case, &mut steps)?;
        }
    }
    if !rest.ends_with(b"/") {
        steps.extend([Step::Maybe, Step::Byte(b'/')]);
    }
    Some(steps)
}

/// Splits at slashes, though not at those between brackets. Only where there are brackets, a backslash keeps one too.
fn segments(pattern: &[u8]) -> Option<Vec<&[u8]>> {
    if !pattern.contains(&b'[') {
        return Some(pattern.split(|byte| *byte == b'/').collect());
    }
    let mut segments = vec![];
    let (mut start, mut at) = (0, 0);
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'\\' => at += 2,
            b'[' => at = set(pattern, at + 1, false)?.1,
            b'/' => {
                segments.push(&pattern[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    segments.push(&pattern[start..]);
    Some(segments)
}

/// Compiles what stands between two slashes.
fn name(segment: &[u8], folds_case: bool, steps: &mut Vec<Step>) -> Option<()> {
    if segment == b"*" {
        steps.extend([no_slash(), Step::Within]);
        return Some(());
    }
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        at += 1;
        steps.push(match byte {
            b'*' => Step::Within,
            b'?' => no_slash(),
            b'\\' => {
                let escaped = segment.get(at).copied();
                at += 1;
                Step::Byte(fold(escaped.unwrap_or(b'\\'), folds_case))
            }
            b'[' => {
                let (set, end) = set(segment, at, folds_case)?;
                at = end;
                Step::Set(set)
            }
            byte => Step::Byte(fold(byte, folds_case)),
        });
    }
    Some(())
}

fn no_slash() -> Step {
    let mut set = Box::new([true; 256]);
    set[usize::from(b'/')] = false;
    Step::Set(set)
}

fn fold(byte: u8, folds_case: bool) -> u8 {
    if folds_case { byte.to_ascii_lowercase() } else { byte }
}

/// Reads the set behind a `[`: which bytes it takes, never a slash, and where it ends. `None` if git refuses it.
fn set(pattern: &[u8], start: usize, folds_case: bool) -> Option<(Box<[bool; 256]>, usize)> {
    let negated = matches!(pattern.get(start), Some(b'!' | b'^'));
    let first = start + usize::from(negated);
    let mut members = Box::new([false; 256]);
    // What a `-` would continue.
    let mut low: Option<u8> = None;
    let mut at = first;
    loop {
        match *pattern.get(at)? {
            b']' if at > first => break,
            b'\\' => {
                at += 1;
                low = Some(*pattern.get(at)?);
            }
            b'-' if low.is_some() && !matches!(pattern.get(at + 1), None | Some(b']')) => {
                at += 1;
                if pattern[at] == b'\\' {
                    at += 1;
                }
                let high = *pattern.get(at)?;
                (low.take()?..=high).for_each(|byte| members[usize::from(byte)] = true);
            }
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let from = at + 2;
                let end = from + pattern.get(from..)?.iter().position(|byte| *byte == b']')?;
                if pattern[from..end].ends_with(b":") {
                    let holds = class(&pattern[from..end - 1])?;
                    (0..=0x7f).filter(holds).for_each(|byte| members[usize::from(byte)] = true);
                    low = None;
                    at = end;
                } else {
                    low = Some(b'[');
                }
            }
            byte => low = Some(byte),
        }
        if let Some(byte) = low {
            members[usize::from(byte)] = true;
        }
        at += 1;
    }
    let mut set = Box::new([false; 256]);
    for byte in 0..=u8::MAX {
        let alike = [byte, byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
        let alike = if folds_case { &alike[..] } else { &alike[..1] };
        let holds = alike.iter().any(|byte| *byte != b'/' && members[usize::from(*byte)]);
        set[usize::from(byte)] = byte != b'/' && holds != negated;
    }
    Some((set, at + 1))
}

/// Which bytes belong to `[:NAME:]`; `None` for a name that git does not know.
fn class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

/// Whether the steps take a text from its start to its end.
fn accepts(steps: &[Step], text: &[u8], folds_case: bool) -> bool {
    let (mut now, mut next) = (vec![], vec![]);
    enter(steps, 0, &mut now);
    for byte in text {
        for &at in &now {
            let Some(step) = steps.get(at) else { continue };
            take(steps, at, step, fold(*byte, folds_case), &mut next);
        }
        std::mem::swap(&mut now, &mut next);
        next.clear();
        if now.is_empty() {
            return false;
        }
    }
    now.contains(&steps.len())
}

/// Adds a step to those that are reached, with the ones that are reached from it without a byte.
fn enter(steps: &[Step], at: usize, reached: &mut Vec<usize>) {
    if reached.contains(&at) {
        return;
    }
    reached.push(at);
    match steps.get(at) {
        Some(Step::Within | Step::Everything) => enter(steps, at + 1, reached),
        Some(Step::Maybe) => {
            enter(steps, at + 1, reached);
            enter(steps, at + 2, reached);
        }
        Some(Step::Levels) => enter(steps, at + 2, reached),
        Some(Step::Byte(_) | Step::Set(_) | Step::Below | Step::InLevel) | None => {}
    }
}

/// Adds the steps that one leads to with a byte.
fn take(steps: &[Step], at: usize, step: &Step, byte: u8, reached: &mut Vec<usize>) {
    let is_slash = byte == b'/';
    let mut go = |to: usize| enter(steps, to, reached);
    match step {
        Step::Byte(wanted) if *wanted == byte => go(at + 1),
        Step::Set(set) if set[usize::from(byte)] => go(at + 1),
        Step::Within if !is_slash => go(at),
        Step::Everything => go(at),
        Step::Below => {
            go(at);
            if is_slash {
                go(at + 1);
            }
        }
        Step::Levels if !is_slash => go(at + 1),
        Step::InLevel => go(if is_slash { at - 1 } else { at }),
        Step::Byte(_) | Step::Set(_) | Step::Within | Step::Levels | Step::Maybe => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, path: &str, expected: bool) {
        let is_dir = path.ends_with('/');
        let matched = Pattern::compile(line.as_bytes(), false)
            .is_some_and(|pattern| pattern.names(path.trim_end_matches('/').as_bytes(), is_dir));
        assert_eq!(matched, expected, "{line} on {path}");
    }

    #[test]
    fn lines_match_as_in_dulwich() {
        check("foo", "a/foo", true);
        check("foo", "a/foo/b", false);
        check("/foo", "a/foo", false);
        check("a/b", "x/a/b", false);
        check("foo/", "foo", false);
        check("foo/", "a/foo/", true);
        check("a/**/c", "a/c", true);
        check("a/**/c", "a/b/b/c", true);
        check("a/**/**/c", "a//c", false);
        check("a/**", "a", false);
        check("**/c", "a/b/c", true);
        check("**/", "a/b/", true);
        check("*.csv", "d/x.csv", true);
        check("d/*.csv", "d/e/x.csv", false);
        check("a?c", "a/c", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("[]-]x", "-x", true);
        check("[z-a]", "z", true);
        check("[!-0]", "/", false);
        check("[[:digit:]_]", "7", true);
        check("[[:digits:]]", "7", false);
        check("[[:]", ":", true);
        check(r"a\/b", r"a\/b", true);
        check(r"[a]\/b", "a/b", true);
        check(r"d\x", "dx", true);
        check(r"d\\x", r"d\x", true);
        check("[abc", "[abc", false);
        check("//", "a/", false);
    }

    #[test]
    fn the_case_of_letters_counts_unless_told_otherwise() {
        let pattern = Pattern::compile(b"Data[X-Z][!q]", true).expect("a pattern");
        assert!(pattern.names(b"dATAyA", false) && !pattern.names(b"datayQ", false));
    }
}
