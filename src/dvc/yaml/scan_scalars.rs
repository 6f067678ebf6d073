//! The scanner's part for scalars: plain, quoted and block ones, with their folding.

use std::borrow::Cow;

use super::reader::{END, Mark, is_break, is_break_or_end, is_separator};
use super::scanner::Scanner;
use super::{Version, YamlError};

/// What a block scalar does with the line breaks at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    Clip,
    Strip,
    Keep,
}

impl<'a> Scanner<'a> {
    /// Scans a plain scalar; returns it with the mark where it ends.
    ///
    /// A tab ends it, and so ends up where no token can start.
    pub(super) fn scan_plain(&mut self) -> (Cow<'a, str>, Mark) {
        let indent = self.indent + 1;
        let in_flow = self.in_flow();
        let question_mark_ends = in_flow && self.version == Version::V1_1;
        let mut text = Cow::Borrowed("");
        let mut blanks = String::new();
        let mut end = self.reader.mark();
        loop {
            if self.reader.peek() == '#' {
                break;
            }
            let word = self.reader.take_while(|c, behind| match c {
                ':' => !is_separator(behind),
                ',' | '[' | ']' | '{' | '}' => !in_flow,
                '?' => !question_mark_ends,
                c => !is_separator(c),
            });
            if word.is_empty() {
                break;
            }
            self.allow_simple_key = false;
            if text.is_empty() {
                text = Cow::Borrowed(word);
            } else {
                let text = text.to_mut();
                text.push_str(&blanks);
                text.push_str(word);
            }
            end = self.reader.mark();
            blanks = self.scan_plain_blanks();
            if blanks.is_empty() || self.reader.peek() == '#' || (!in_flow && self.reader.column() < indent) {
                break;
            }
        }
        (text, end)
    }

    /// Moves past what separates two words of a plain scalar and returns it folded; empty where the scalar ends.
    fn scan_plain_blanks(&mut self) -> String {
        let blanks = self.reader.take_while(|c, _| c == ' ');
        let Some(line_break) = self.reader.take_break() else { return blanks.to_owned() };
        self.allow_simple_key = true;
        let mut breaks = String::new();
        if self.reader.at_document_marker() {
            return breaks;
        }
        loop {
            self.reader.skip_spaces();
            let Some(further) = self.reader.take_break() else { break };
            breaks.push(further);
            if self.reader.at_document_marker() {
                return String::new();
            }
        }
        fold(line_break, breaks)
    }

    pub(super) fn scan_quoted(&mut self, quote: char) -> Result<Cow<'a, str>, YamlError> {
        let start = self.reader.mark();
        self.reader.advance();
        let mut text = Cow::Borrowed("");
        loop {
            let run = self.reader.take_while(|c, _| !matches!(c, '\'' | '"' | '\\' | ' ' | '\t') && !is_break(c));
            append(&mut text, run);
            match (self.reader.peek(), quote) {
                ('\'', '\'') if self.reader.peek_second() == '\'' => {
                    self.reader.advance_by(2);
                    append(&mut text, "'");
                }
                (c, _) if c == quote => break,
                ('\\', '"') => self.scan_escape(&mut text, start)?,
                (c @ ('\'' | '"' | '\\'), _) => {
                    self.reader.advance();
                    text.to_mut().push(c);
                }
                _ => self.scan_quoted_blanks(&mut text, start)?,
            }
        }
        self.reader.advance();
        Ok(text)
    }

    fn scan_escape(&mut self, text: &mut Cow<'a, str>, start: Mark) -> Result<(), YamlError> {
        let at = self.reader.mark();
        self.reader.advance();
        let c = self.reader.peek();
        let escaped = match c {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\u{B}',
            'f' => '\u{C}',
            'r' => '\r',
            'e' => '\u{1B}',
            ' ' | '"' | '/' | '\\' => c,
            'N' => '\u{85}',
            '_' => '\u{A0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            'x' => return self.scan_hex_escape(text, at, 2),
            'u' => return self.scan_hex_escape(text, at, 4),
            'U' => return self.scan_hex_escape(text, at, 8),
            c if is_break(c) => {
                self.reader.take_break();
                let breaks = self.scan_quoted_breaks(start)?;
                text.to_mut().push_str(&breaks);
                return Ok(());
            }
            END => return Err(start.error("this quoted text does not end")),
            c => return Err(at.error(format!("unknown escape `\\{c}` in a double-quoted text"))),
        };
        self.reader.advance();
        text.to_mut().push(escaped);
        Ok(())
    }

    fn scan_hex_escape(&mut self, text: &mut Cow<'a, str>, at: Mark, length: usize) -> Result<(), YamlError> {
        self.reader.advance();
        let mut left = length;
        let digits = self.reader.take_while(|c, _| {
            let wanted = left > 0 && c.is_ascii_hexdigit();
            left -= usize::from(wanted);
            wanted
        });
        if digits.len() < length {
            return Err(at.error(format!("expected {length} hexadecimal digits in this escape")));
        }
        let code = u32::from_str_radix(digits, 16).expect("at most eight hexadecimal digits");
        // Python would make a string of a lone surrogate, which then cannot be written anywhere.
        let c = char::from_u32(code).ok_or_else(|| at.error("this escape is not a character"))?;
        text.to_mut().push(c);
        Ok(())
    }

    fn scan_quoted_blanks(&mut self, text: &mut Cow<'a, str>, start: Mark) -> Result<(), YamlError> {
        let blanks = self.reader.take_while(|c, _| matches!(c, ' ' | '\t'));
        if self.reader.peek() == END {
            return Err(start.error("this quoted text does not end"));
        }
        let Some(line_break) = self.reader.take_break() else {
            append(text, blanks);
            return Ok(());
        };
        let breaks = self.scan_quoted_breaks(start)?;
        text.to_mut().push_str(&fold(line_break, breaks));
        Ok(())
    }

    /// Moves past indentation and empty lines.
    fn scan_quoted_breaks(&mut self, start: Mark) -> Result<String, YamlError> {
        let mut breaks = String::new();
        loop {
            if self.reader.at_document_marker() {
                return Err(start.error("this quoted text does not end before the document does"));
            }
            self.reader.take_while(|c, _| matches!(c, ' ' | '\t'));
            match self.reader.take_break() {
                Some(further) => breaks.push(further),
                None => return Ok(breaks),
            }
        }
    }

    /// Scans a `|` or `>` scalar; returns where it starts, its text and where it ends.
    pub(super) fn scan_block_scalar(&mut self, folded: bool) -> Result<(Mark, Cow<'a, str>, Mark), YamlError> {
        let start = self.reader.mark();
        self.reader.advance();
        let (chomping, increment) = self.scan_block_header()?;
        self.finish_line("the header of a block scalar")?;

        let min_indent = self.indent + 1;
        let (indent, (mut breaks, mut end)) = if let Some(increment) = increment {
            let indent = min_indent.max(1) + increment - 1;
            (indent, self.scan_block_breaks(indent))
        } else {
            let (breaks, max_indent, end) = self.scan_block_indentation()?;
            (min_indent.max(max_indent), (breaks, end))
        };
        let mut text = String::new();
        let mut line_break = None;
        while self.reader.column() == indent && self.reader.peek() != END {
            text.push_str(&breaks);
            let starts_with_text = !matches!(self.reader.peek(), ' ' | '\t');
            text.push_str(self.reader.take_while(|c, _| !is_break(c)));
            line_break = self.reader.take_break();
            (breaks, end) = self.scan_block_breaks(indent);
            // At the top level the text may stand in column 0, where the document's end has to be looked for.
            let document_ends = min_indent == 0 && self.reader.column() == 0 && self.reader.at_document_marker();
            if document_ends || self.reader.column() != indent || self.reader.peek() == END {
                break;
            }
            if folded && line_break == Some('\n') && starts_with_text && !matches!(self.reader.peek(), ' ' | '\t') {
                if breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.extend(line_break);
            }
        }
        if chomping != Chomping::Strip {
            text.extend(line_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&breaks);
        }
        Ok((start, Cow::Owned(text), end))
    }

    fn scan_block_header(&mut self) -> Result<(Chomping, Option<i64>), YamlError> {
        let mut chomping = self.scan_chomping();
        let digit = self.reader.peek().to_digit(10).map(i64::from);
        if digit == Some(0) {
            return Err(self.error("the indentation of a block scalar is 1 to 9"));
        }
        if digit.is_some() {
            self.reader.advance();
            chomping = chomping.or_else(|| self.scan_chomping());
        }
        if self.reader.peek() != ' ' && !is_break_or_end(self.reader.peek()) {
            return Err(self.error("expected `+`, `-`, a digit or a line break in the header of a block scalar"));
        }
        Ok((chomping.unwrap_or(Chomping::Clip), digit))
    }

    fn scan_chomping(&mut self) -> Option<Chomping> {
        let chomping = match self.reader.peek() {
            '+' => Chomping::Keep,
            '-' => Chomping::Strip,
            _ => return None,
        };
        self.reader.advance();
        Some(chomping)
    }

    /// Moves past the empty lines in front of a block scalar; returns them, the deepest column seen and their end.
    fn scan_block_indentation(&mut self) -> Result<(String, i64, Mark), YamlError> {
        let mut breaks = String::new();
        let mut first_indent = 0;
        let mut max_indent = 0;
        let mut end = self.reader.mark();
        loop {
            let column = self.reader.column();
            if let Some(line_break) = self.reader.take_break() {
                if breaks.is_empty() {
                    first_indent = column;
                }
                breaks.push(line_break);
                end = self.reader.mark();
            } else if self.reader.peek() == ' ' {
                self.reader.advance();
                max_indent = max_indent.max(column + 1);
            } else {
                break;
            }
        }
        if first_indent > 0 && max_indent > first_indent {
            return Err(self.error("a line is indented deeper than the empty one at the start of the block scalar"));
        }
        Ok((breaks, max_indent, end))
    }

    /// Moves past empty lines and the indentation behind them; returns the lines and where they end.
    fn scan_block_breaks(&mut self, indent: i64) -> (String, Mark) {
        let mut breaks = String::new();
        let mut end = self.reader.mark();
        loop {
            while self.reader.column() < indent && self.reader.peek() == ' ' {
                self.reader.advance();
            }
            let Some(line_break) = self.reader.take_break() else { return (breaks, end) };
            breaks.push(line_break);
            end = self.reader.mark();
        }
    }
}

/// One line break becomes a blank, further ones stay.
fn fold(first: char, mut breaks: String) -> String {
    if first != '\n' {
        breaks.insert(0, first);
    } else if breaks.is_empty() {
        breaks.push(' ');
    }
    breaks
}

/// Appends without copying while the text is one piece of the source.
fn append<'a>(text: &mut Cow<'a, str>, piece: &'a str) {
    if text.is_empty() {
        *text = Cow::Borrowed(piece);
    } else if !piece.is_empty() {
        text.to_mut().push_str(piece);
    }
}
