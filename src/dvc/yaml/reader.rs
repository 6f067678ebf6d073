//! Characters of a YAML text with their position, as ruamel counts them.
//!
//! Lines end at LF only, although the scanner treats U+0085, U+2028 and U+2029 as line breaks too: behind one of
//! those the column goes on counting. Columns and the index count code points; a byte order mark has no width.

use std::borrow::Cow;

use super::{Position, YamlError};

/// Stands for the end of the text; no text contains it.
pub(super) const END: char = '\0';

/// Returns whether a character ends a line for the scanner. (CR never gets here.)
pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_break_or_end(c: char) -> bool {
    c == END || is_break(c)
}

/// Returns whether a character separates tokens: a blank, a tab, a line break or the end.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t') || is_break_or_end(c)
}

/// A place in the text; `line` and `column` count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub index: usize,
    pub line: u32,
    pub column: u32,
}

impl Mark {
    pub(super) fn position(self) -> Position {
        Position { line: self.line + 1, column: self.column + 1 }
    }

    pub(super) fn error(self, message: impl Into<String>) -> YamlError {
        self.position().error(message)
    }
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    offset: usize,
    mark: Mark,
}

/// Decodes a file the way Python opens one for text: UTF-8, with CR LF and CR as LF.
///
/// Returns an error at the first byte that is not UTF-8.
pub(super) fn decode_text(bytes: &[u8]) -> Result<Cow<'_, str>, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        position_after(&valid).error("not valid UTF-8")
    })?;
    if text.contains('\r') {
        return Ok(Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")));
    }
    Ok(Cow::Borrowed(text))
}

/// Returns an error at the first character that YAML does not allow.
pub(super) fn check_characters(text: &str) -> Result<(), YamlError> {
    if let Some((offset, c)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        let message = format!("the character U+{:04X} is not allowed", u32::from(c));
        return Err(position_after(&text[..offset]).error(message));
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    matches!(c, ' '..='~' | '\t' | '\n' | '\u{85}' | '\u{A0}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn position_after(text: &str) -> Mark {
    let mut reader = Reader::new(text);
    while reader.peek() != END {
        reader.advance();
    }
    reader.mark()
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Reader { text, offset: 0, mark: Mark { index: 0, line: 0, column: 0 } }
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn column(&self) -> i64 {
        i64::from(self.mark.column)
    }

    /// Returns what lies ahead.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    /// Returns the next character, [`END`] at the end.
    pub(super) fn peek(&self) -> char {
        match self.text.as_bytes().get(self.offset) {
            None => END,
            Some(byte) if byte.is_ascii() => char::from(*byte),
            Some(_) => self.rest().chars().next().unwrap_or(END),
        }
    }

    /// Returns the character behind the next one.
    pub(super) fn peek_second(&self) -> char {
        self.peek_nth(1)
    }

    pub(super) fn peek_nth(&self, n: usize) -> char {
        self.rest().chars().nth(n).unwrap_or(END)
    }

    /// Moves past the next character, if there is one.
    pub(super) fn advance(&mut self) {
        let c = self.peek();
        if c == END && self.offset == self.text.len() {
            return;
        }
        self.offset += c.len_utf8();
        self.mark.index += 1;
        if c == '\n' {
            self.mark.line += 1;
            self.mark.column = 0;
        } else if c != '\u{FEFF}' {
            self.mark.column += 1;
        }
    }

    pub(super) fn advance_by(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    /// Moves past the characters for which `wanted(character, the one behind it)` holds, and returns them.
    pub(super) fn take_while(&mut self, mut wanted: impl FnMut(char, char) -> bool) -> &'a str {
        let start = self.offset;
        let mut c = self.peek();
        while c != END {
            let behind = self.rest()[c.len_utf8()..].chars().next().unwrap_or(END);
            if !wanted(c, behind) {
                break;
            }
            self.advance();
            c = behind;
        }
        &self.text[start..self.offset]
    }

    pub(super) fn skip_spaces(&mut self) {
        while self.peek() == ' ' {
            self.advance();
        }
    }

    /// Moves past a comment that starts here, up to the line break.
    pub(super) fn skip_comment(&mut self) {
        if self.peek() == '#' {
            self.take_while(|c, _| !is_break(c));
        }
    }

    /// Moves past a line break and returns what it contributes to a scalar, `None` if there is none here.
    pub(super) fn take_break(&mut self) -> Option<char> {
        let c = self.peek();
        if !is_break(c) {
            return None;
        }
        self.advance();
        Some(if c == '\u{85}' { '\n' } else { c })
    }

    /// Returns whether `---` or `...` with nothing attached stands here, whatever the column.
    pub(super) fn at_document_marker(&self) -> bool {
        self.at_marker("---") || self.at_marker("...")
    }

    pub(super) fn at_marker(&self, marker: &str) -> bool {
        self.rest().starts_with(marker) && is_separator(self.peek_nth(3))
    }
}
