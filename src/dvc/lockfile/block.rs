//! The block layout in which DVC writes a lock file, read as events in one pass over its lines.
//!
//! This is not YAML but the part of it that DVC's dumper makes: block maps and lists, `? ` keys, quoted and folded
//! scalars, `[]`, `{}`, anchors on maps and lists; and the comments and blank lines between them, which DVC keeps. The
//! reader stops at the first line it does not know (flow style, a block scalar, a tag, a tab), so that what it accepts
//! means to DVC what it means here; the rest is left to `model::yaml`. Layout as in `ruamel.yaml` 0.19.1 under DVC 3.67.

use super::scalar::{Scalar, Style};

/// One step of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'t> {
    Open(Kind),
    /// The end of the innermost map or list. Its offset is the end of its last line, its line the next one that is
    /// neither blank nor a comment.
    Close,
    /// A key of the innermost map.
    Key(Scalar<'t>),
    Scalar(Scalar<'t>),
    /// A null, `[]` or `{}`.
    Empty(Empty),
    /// The name of an anchor or alias, without its `&` or `*`.
    Anchor(Anchor, &'t str),
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// From 1.
    pub line: usize,
    /// The offset of the line's first byte.
    pub line_start: usize,
    /// The offset of the event's own first byte.
    pub offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    Null,
    List,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Definition,
    Alias,
}

/// The first line that is not in DVC's own layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Irregular {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// Reads a whole text: one map or list, at the column of its first line.
pub(super) fn read<'t>(text: &'t str, sink: impl FnMut(Event<'t>, Position)) -> Result<(), Irregular> {
    if let Some(offset) = find_odd_character(text) {
        let line = text[..offset].matches('\n').count() + 1;
        return Err(Irregular { line, what: "a character that DVC would have written as an escape" });
    }
    let mut reader = Reader {
        text,
        start: 0,
        at: 0,
        end: 0,
        next: 0,
        read_to: 0,
        skipped: false,
        column: 0,
        line: 0,
        done: false,
        sink,
    };
    reader.advance();
    if !reader.done {
        reader.block(reader.column)?;
    }
    if reader.done { Ok(()) } else { Err(reader.irregular("indentation")) }
}

/// Deeper nesting is left to the YAML reader, which has its own limit.
const MAX_DEPTH: usize = 64;

struct Reader<'t, S> {
    text: &'t str,
    /// Where the line begins; at the end of the text where no line is left.
    start: usize,
    /// Where the unread rest of the line begins.
    at: usize,
    /// Where the line ends, without its line feed.
    end: usize,
    /// Where the next line begins.
    next: usize,
    /// Where the last line ends that was neither blank nor a comment, and was read.
    read_to: usize,
    /// Blank lines or comments stand above the line.
    skipped: bool,
    /// The column of `at`, counting `- `, `? ` and `: ` as indentation.
    column: usize,
    line: usize,
    /// No line is left.
    done: bool,
    sink: S,
}

type Step = Result<(), Irregular>;

impl<'t, S: FnMut(Event<'t>, Position)> Reader<'t, S> {
    fn irregular(&self, what: &'static str) -> Irregular {
        Irregular { line: self.line, what }
    }

    fn position(&self) -> Position {
        Position { line: self.line, line_start: self.start, offset: self.at }
    }

    fn emit(&mut self, event: Event<'t>) {
        let here = self.position();
        (self.sink)(event, here);
    }

    fn close(&mut self) {
        (self.sink)(Event::Close, Position { line: self.line, line_start: self.start, offset: self.read_to });
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..self.end]
    }

    /// Moves behind the indentation of the next line that is neither blank nor a comment.
    fn advance(&mut self) {
        self.read_to = self.next;
        self.skipped = false;
        loop {
            self.next_line();
            if self.done || self.byte(0).is_some_and(|byte| byte != b'#') {
                break;
            }
            self.skipped = true;
        }
    }

    /// Moves behind the indentation of the next line.
    fn next_line(&mut self) {
        self.start = self.next;
        if self.start == self.text.len() {
            (self.at, self.end, self.done) = (self.start, self.start, true);
            return;
        }
        self.line += 1;
        self.end = self.text[self.start..].find('\n').map_or(self.text.len(), |length| self.start + length);
        self.next = (self.end + 1).min(self.text.len());
        self.column = self.text.as_bytes()[self.start..self.end].iter().take_while(|byte| **byte == b' ').count();
        self.at = self.start + self.column;
    }

    /// Consumes `length` characters of indentation such as `- `.
    fn indent(&mut self, length: usize) {
        self.at += length;
        self.column += length;
    }

    /// The byte at an offset of the rest of the line.
    fn byte(&self, offset: usize) -> Option<u8> {
        self.text.as_bytes()[self.at..self.end].get(offset).copied()
    }

    /// Whether the rest of the line begins with a sign and a blank.
    fn begins_with(&self, sign: u8) -> bool {
        self.byte(0) == Some(sign) && self.byte(1) == Some(b' ')
    }

    fn is_item(&self) -> bool {
        !self.done && self.begins_with(b'-')
    }

    /// A map or list whose first line is the current one.
    fn block(&mut self, column: usize) -> Step {
        if column > 2 * MAX_DEPTH {
            return Err(self.irregular("nesting this deep"));
        }
        if self.is_item() { self.list(column) } else { self.map(column) }
    }

    fn list(&mut self, column: usize) -> Step {
        self.emit(Event::Open(Kind::List));
        while !self.done && self.column == column && self.is_item() {
            self.indent(2);
            self.item()?;
        }
        self.close();
        Ok(())
    }

    /// What stands behind a `- ` or `: `, at the current column.
    fn item(&mut self) -> Step {
        let rest = self.rest();
        let column = self.column;
        if rest.is_empty() {
            self.emit(Event::Empty(Empty::Null));
            self.advance();
            Ok(())
        } else if self.begins_with(b'-') || self.begins_with(b'?') || self.key_length().is_some() {
            self.block(column)
        } else {
            self.inline(column - 2)
        }
    }

    fn map(&mut self, column: usize) -> Step {
        self.emit(Event::Open(Kind::Map));
        while !self.done && self.column == column && !self.is_item() {
            if self.begins_with(b'?') {
                self.explicit_pair(column)?;
            } else {
                let Some(length) = self.key_length() else {
                    return Err(self.irregular("neither a key nor an item"));
                };
                self.emit(Event::Key(Scalar::of(&self.rest()[..length])));
                self.at += length + 1;
                self.value(column)?;
            }
        }
        self.close();
        Ok(())
    }

    /// `? KEY` and `: VALUE`, as written for keys of 123 characters and more and for keys with line breaks.
    fn explicit_pair(&mut self, column: usize) -> Step {
        self.indent(2);
        let here = self.position();
        let key = self.scalar(column)?;
        (self.sink)(Event::Key(key), here);
        if self.done || self.column != column || !self.rest().starts_with(':') {
            return Err(self.irregular("a `?` key without its value"));
        }
        if self.rest() == ":" {
            self.emit(Event::Empty(Empty::Null));
            self.advance();
            return Ok(());
        }
        if !self.rest().starts_with(": ") {
            return Err(self.irregular("a `?` key without its value"));
        }
        self.indent(2);
        self.item()
    }

    /// The length of the key that the line begins with, without its colon.
    fn key_length(&self) -> Option<usize> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let length = match bytes.first()? {
            quote @ (b'"' | b'\'') => closing_quote(rest, 1, *quote)? + 1,
            first if is_indicator(*first) => return None,
            _ => find_pair(bytes, b':', b' ').or_else(|| rest.strip_suffix(':').map(str::len))?,
        };
        let is_comment = !matches!(bytes[0], b'"' | b'\'') && find_pair(&bytes[..length], b' ', b'#').is_some();
        let ends = bytes.get(length) == Some(&b':') && matches!(bytes.get(length + 1), None | Some(b' '));
        (ends && !is_comment && !rest[..length].ends_with(' ')).then_some(length)
    }

    /// What stands behind the colon of a key at `column`.
    fn value(&mut self, column: usize) -> Step {
        match self.rest() {
            "" => self.nested(column),
            // The first word was too long for this line.
            " " => {
                self.at += 1;
                let here = self.position();
                let scalar = self.plain(column)?;
                if scalar.raw.trim_start_matches([' ', '\n']).starts_with(['"', '\'']) {
                    return Err(self.irregular("a quoted value below its key"));
                }
                (self.sink)(Event::Scalar(scalar), here);
                Ok(())
            }
            _ if self.begins_with(b' ') => Err(self.irregular("more than one blank behind a colon")),
            rest if rest.starts_with(' ') => {
                self.at += 1;
                self.inline(column)
            }
            _ => Err(self.irregular("a key without a blank behind its colon")),
        }
    }

    /// The map or list on the lines below a key or dash at `column`; null if there is none.
    fn nested(&mut self, column: usize) -> Step {
        let here = self.position();
        self.advance();
        if !self.done && (self.column == column + 2 && !self.is_item() || self.column == column && self.is_item()) {
            return self.block(self.column);
        }
        if !self.done && self.column > column {
            return Err(self.irregular("indentation"));
        }
        (self.sink)(Event::Empty(Empty::Null), here);
        Ok(())
    }

    /// A value that begins on the line of its key or dash, which stands at `column`.
    fn inline(&mut self, column: usize) -> Step {
        match self.rest() {
            "[]" => {
                self.emit(Event::Empty(Empty::List));
                self.advance();
                Ok(())
            }
            "{}" => {
                self.emit(Event::Empty(Empty::Map));
                self.advance();
                Ok(())
            }
            rest if rest.starts_with('&') => self.anchored(column),
            rest if rest.starts_with('*') => {
                if rest.contains(' ') {
                    return Err(self.irregular("text behind an alias"));
                }
                self.emit(Event::Anchor(Anchor::Alias, &rest[1..]));
                self.advance();
                Ok(())
            }
            _ => {
                let here = self.position();
                let scalar = self.scalar(column)?;
                (self.sink)(Event::Scalar(scalar), here);
                Ok(())
            }
        }
    }

    fn anchored(&mut self, column: usize) -> Step {
        let rest = self.rest();
        let (name, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        self.emit(Event::Anchor(Anchor::Definition, &name[1..]));
        let is_item = self.text[..self.at].ends_with("- ");
        match behind {
            "" if is_item => {
                self.advance();
                if self.done || self.column != column + 2 {
                    return Err(self.irregular("an anchor without its value"));
                }
                self.block(self.column)
            }
            "" => self.nested(column),
            "[]" | "{}" => {
                self.at = self.end - 2;
                self.inline(column)
            }
            _ => Err(self.irregular("an anchor on a scalar")),
        }
    }

    /// A scalar that begins here; its other lines are indented deeper than `column`.
    fn scalar(&mut self, column: usize) -> Result<Scalar<'t>, Irregular> {
        match self.rest().as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(column, *quote),
            Some(first) if is_indicator(*first) => Err(self.irregular("flow style, a block scalar or a tag")),
            _ => self.plain(column),
        }
    }

    fn quoted(&mut self, column: usize, quote: u8) -> Result<Scalar<'t>, Irregular> {
        let start = self.at;
        let mut from = self.at + 1;
        loop {
            if let Some(close) = closing_quote(&self.text[..self.end], from, quote) {
                if close + 1 != self.end {
                    return Err(self.irregular("text behind a closing quote"));
                }
                let scalar = Scalar::of(&self.text[start..self.end]);
                self.advance();
                return Ok(scalar);
            }
            self.next_line();
            if self.done || self.rest().is_empty() || self.column <= column {
                return Err(self.irregular("a quote that is not closed"));
            }
            from = self.at;
        }
    }

    fn plain(&mut self, column: usize) -> Result<Scalar<'t>, Irregular> {
        let start = self.at;
        loop {
            let rest = self.rest().as_bytes();
            let is_odd = |pair: &[u8]| matches!(pair, b" #" | b": ");
            if rest.windows(2).any(is_odd) || rest.last() == Some(&b':') {
                return Err(self.irregular("a comment or a key inside a value"));
            }
            let end = self.end;
            self.advance();
            if self.done || self.column <= column {
                return Ok(Scalar { raw: &self.text[start..end], style: Style::Plain });
            }
            if self.skipped {
                return Err(self.irregular("a value that goes on behind a blank line or a comment"));
            }
        }
    }
}

/// Whether a plain scalar cannot begin with this byte; `-`, `?` and `:` may, before a character that is not a blank.
fn is_indicator(byte: u8) -> bool {
    matches!(byte, b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@' | b'`')
}

/// The offset of two bytes that stand side by side.
fn find_pair(text: &[u8], first: u8, second: u8) -> Option<usize> {
    text.windows(2).position(|pair| pair == [first, second])
}

/// Finds the quote that closes a scalar whose text goes on at `from`; a single one is doubled to stand for itself.
fn closing_quote(text: &str, from: usize, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        if bytes[at] == b'\\' && quote == b'"' {
            at += 1;
        } else if bytes[at] == quote {
            if quote == b'"' || bytes.get(at + 1) != Some(&quote) {
                return Some(at);
            }
            at += 1;
        }
        at += 1;
    }
    None
}

/// Finds a character that DVC's dumper escapes or folds at: controls, tabs, CR, DEL, BOM and Unicode's line breaks.
fn find_odd_character(text: &str) -> Option<usize> {
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte) || byte == b'\n') {
        return None;
    }
    text.char_indices()
        .find(|(_, c)| {
            let is_printed =
                matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
            !is_printed || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
        })
        .map(|(offset, _)| offset)
}
