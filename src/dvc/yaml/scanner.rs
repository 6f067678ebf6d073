//! Tokens of a YAML text, found the way ruamel finds them.
//!
//! A simple key (`key: value`) is known as a key only at its `:`. Until then the scanner remembers where a key could
//! have started, at most one place per flow level, and holds its tokens back; a key must end on its line and within
//! 1024 characters. How far the scanner has read ahead is visible in one rule (see [`Scanner::at_value`]), so tokens
//! are fetched exactly as late as ruamel fetches them: when the queue is empty, or its first token may yet become a key.

use std::collections::VecDeque;

use super::reader::{END, Mark, Reader, is_separator};
use super::token::{Token, TokenKind};
use super::{MAX_DEPTH, Version, YamlError};

/// Characters between the start of a simple key and its `:`.
const MAX_SIMPLE_KEY: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Square,
    Curly,
}

/// A place where a simple key may have started.
#[derive(Clone, Copy, Debug)]
struct SimpleKey {
    flow_level: usize,
    /// Counted over the whole text.
    token: usize,
    /// Nothing but a key may stand here: it begins in the column of its block mapping.
    required: bool,
    mark: Mark,
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    pub(super) reader: Reader<'a>,
    tokens: VecDeque<Token<'a>>,
    taken: usize,
    done: bool,
    flow: Vec<Bracket>,
    /// The column of the innermost block collection, -1 outside of any.
    pub(super) indent: i64,
    outer_indents: Vec<i64>,
    /// Whether a simple key may start here; in block context also whether a block collection may.
    pub(super) allow_simple_key: bool,
    /// Possible keys, outermost first, hence also the oldest first.
    possible_keys: VecDeque<SimpleKey>,
    pub(super) version: Version,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner {
            reader: Reader::new(text),
            tokens: VecDeque::new(),
            taken: 0,
            done: false,
            flow: vec![],
            indent: -1,
            outer_indents: vec![],
            allow_simple_key: true,
            possible_keys: VecDeque::new(),
            version: Version::V1_2,
        }
    }

    /// Returns the next token without taking it.
    pub(super) fn peek(&mut self) -> Result<&Token<'a>, YamlError> {
        self.fill()?;
        Ok(self.tokens.front().expect("the stream's end is never taken"))
    }

    /// Takes the next token. The one at the end of the stream stays.
    pub(super) fn next(&mut self) -> Result<Token<'a>, YamlError> {
        self.fill()?;
        if self.done && self.tokens.len() == 1 {
            return Ok(self.tokens[0].clone());
        }
        self.taken += 1;
        Ok(self.tokens.pop_front().expect("the stream's end is never taken"))
    }

    pub(super) fn in_flow(&self) -> bool {
        !self.flow.is_empty()
    }

    fn fill(&mut self) -> Result<(), YamlError> {
        while !self.done && self.needs_more()? {
            self.fetch()?;
        }
        Ok(())
    }

    fn needs_more(&mut self) -> Result<bool, YamlError> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        self.drop_stale_keys()?;
        Ok(self.possible_keys.front().is_some_and(|key| key.token == self.taken))
    }

    fn fetch(&mut self) -> Result<(), YamlError> {
        self.skip_to_next_token();
        self.drop_stale_keys()?;
        self.unwind_indent(self.reader.column());
        let at_line_start = self.reader.column() == 0;
        match self.reader.peek() {
            END => self.fetch_stream_end(),
            '%' if at_line_start => {
                self.leave_document()?;
                let start = self.reader.mark();
                let directive = self.scan_directive()?;
                self.push(start, TokenKind::Directive(directive));
                Ok(())
            }
            '-' if at_line_start && self.reader.at_marker("---") => self.fetch_marker(TokenKind::DocumentStart),
            '.' if at_line_start && self.reader.at_marker("...") => self.fetch_marker(TokenKind::DocumentEnd),
            '[' => self.fetch_flow_start(Bracket::Square, TokenKind::FlowSequenceStart),
            '{' => self.fetch_flow_start(Bracket::Curly, TokenKind::FlowMappingStart),
            ']' => self.fetch_flow_end(TokenKind::FlowSequenceEnd),
            '}' => self.fetch_flow_end(TokenKind::FlowMappingEnd),
            ',' => {
                self.allow_simple_key = true;
                self.remove_possible_key()?;
                self.push_char(TokenKind::FlowEntry);
                Ok(())
            }
            '-' if is_separator(self.reader.peek_second()) => self.fetch_block_entry(),
            '?' if self.in_flow() || is_separator(self.reader.peek_second()) => self.fetch_key(),
            ':' if self.at_value() => self.fetch_value(),
            '*' => self.fetch_name(TokenKind::Alias),
            '&' => self.fetch_name(TokenKind::Anchor),
            '!' => {
                let start = self.begin_scalar()?;
                let tag = self.scan_tag()?;
                self.push(start, TokenKind::Tag(tag));
                Ok(())
            }
            style @ ('|' | '>') if !self.in_flow() => {
                // A key may follow a block scalar.
                self.allow_simple_key = true;
                self.remove_possible_key()?;
                let (start, text, end) = self.scan_block_scalar(style == '>')?;
                self.tokens.push_back(Token { kind: TokenKind::Scalar { text, plain: false }, start, end });
                Ok(())
            }
            quote @ ('\'' | '"') => {
                let start = self.begin_scalar()?;
                let text = self.scan_quoted(quote)?;
                self.push(start, TokenKind::Scalar { text, plain: false });
                Ok(())
            }
            _ if self.at_plain() => {
                let start = self.begin_scalar()?;
                let (text, end) = self.scan_plain();
                self.tokens.push_back(Token { kind: TokenKind::Scalar { text, plain: true }, start, end });
                Ok(())
            }
            '\t' => Err(self.error("a tab cannot stand here")),
            c => Err(self.error(format!("`{c}` cannot stand here"))),
        }
    }

    pub(super) fn error(&self, message: impl Into<String>) -> YamlError {
        self.reader.mark().error(message)
    }

    /// Appends a token that began at `start` and ends here.
    fn push(&mut self, start: Mark, kind: TokenKind<'a>) {
        self.tokens.push_back(Token { kind, start, end: self.reader.mark() });
    }

    /// Appends a token of one character.
    fn push_char(&mut self, kind: TokenKind<'a>) {
        let start = self.reader.mark();
        self.reader.advance();
        self.push(start, kind);
    }

    /// Skips blanks, comments and line breaks; tabs are blanks in flow context only.
    fn skip_to_next_token(&mut self) {
        if self.reader.mark().index == 0 && self.reader.peek() == '\u{FEFF}' {
            self.reader.advance();
        }
        loop {
            let in_flow = self.in_flow();
            self.reader.take_while(|c, _| c == ' ' || (in_flow && c == '\t'));
            self.reader.skip_comment();
            if self.reader.take_break().is_none() {
                return;
            }
            if !in_flow {
                self.allow_simple_key = true;
            }
        }
    }

    // Simple keys.

    fn drop_stale_keys(&mut self) -> Result<(), YamlError> {
        let here = self.reader.mark();
        while let Some(key) = self.possible_keys.front() {
            if key.mark.line == here.line && here.index - key.mark.index <= MAX_SIMPLE_KEY {
                break;
            }
            if key.required {
                return Err(missing_colon(*key));
            }
            self.possible_keys.pop_front();
        }
        Ok(())
    }

    /// Notes that a key may start here, if one may.
    fn save_possible_key(&mut self) -> Result<(), YamlError> {
        if !self.allow_simple_key {
            return Ok(());
        }
        self.remove_possible_key()?;
        self.possible_keys.push_back(SimpleKey {
            flow_level: self.flow.len(),
            token: self.taken + self.tokens.len(),
            required: !self.in_flow() && self.indent == self.reader.column(),
            mark: self.reader.mark(),
        });
        Ok(())
    }

    /// Takes the possible key of this flow level. Keys of outer levels lie before it.
    fn take_possible_key(&mut self) -> Option<SimpleKey> {
        let level = self.flow.len();
        self.possible_keys.pop_back_if(|key| key.flow_level == level)
    }

    fn remove_possible_key(&mut self) -> Result<(), YamlError> {
        match self.take_possible_key() {
            Some(key) if key.required => Err(missing_colon(key)),
            _ => Ok(()),
        }
    }

    /// Notes a possible key at a token behind which none may start.
    fn begin_scalar(&mut self) -> Result<Mark, YamlError> {
        self.save_possible_key()?;
        self.allow_simple_key = false;
        Ok(self.reader.mark())
    }

    // Indentation.

    fn unwind_indent(&mut self, column: i64) {
        if self.in_flow() {
            return;
        }
        let mark = self.reader.mark();
        while self.indent > column {
            self.indent = self.outer_indents.pop().expect("one was pushed for each indent");
            self.push(mark, TokenKind::BlockEnd);
        }
    }

    /// Opens a block collection at the column, unless one is open there; returns whether it did.
    fn add_indent(&mut self, column: i64) -> bool {
        if self.indent >= column {
            return false;
        }
        self.outer_indents.push(self.indent);
        self.indent = column;
        true
    }

    fn start_block(&mut self, kind: TokenKind<'a>) {
        if self.add_indent(self.reader.column()) {
            self.push(self.reader.mark(), kind);
        }
    }

    // Tokens.

    fn fetch_stream_end(&mut self) -> Result<(), YamlError> {
        self.leave_document()?;
        self.possible_keys.clear();
        self.push(self.reader.mark(), TokenKind::StreamEnd);
        self.done = true;
        Ok(())
    }

    /// Closes all block collections; a key cannot follow on the same line.
    fn leave_document(&mut self) -> Result<(), YamlError> {
        self.unwind_indent(-1);
        self.remove_possible_key()?;
        self.allow_simple_key = false;
        Ok(())
    }

    fn fetch_marker(&mut self, kind: TokenKind<'a>) -> Result<(), YamlError> {
        self.leave_document()?;
        let start = self.reader.mark();
        self.reader.advance_by(3);
        self.push(start, kind);
        Ok(())
    }

    fn fetch_flow_start(&mut self, bracket: Bracket, kind: TokenKind<'a>) -> Result<(), YamlError> {
        self.save_possible_key()?;
        if self.flow.len() >= MAX_DEPTH {
            return Err(YamlError::too_deep(self.reader.mark().position()));
        }
        self.flow.push(bracket);
        self.allow_simple_key = true;
        self.push_char(kind);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: TokenKind<'a>) -> Result<(), YamlError> {
        self.remove_possible_key()?;
        // A bracket that closes nothing is found by the parser.
        self.flow.pop();
        self.allow_simple_key = false;
        self.push_char(kind);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<(), YamlError> {
        if !self.in_flow() {
            if !self.allow_simple_key {
                return Err(self.error("a list item cannot start here"));
            }
            self.start_block(TokenKind::BlockSequenceStart);
        }
        self.allow_simple_key = true;
        self.remove_possible_key()?;
        self.push_char(TokenKind::BlockEntry);
        Ok(())
    }

    fn fetch_key(&mut self) -> Result<(), YamlError> {
        if !self.in_flow() {
            if !self.allow_simple_key {
                return Err(self.error("a map key cannot start here"));
            }
            self.start_block(TokenKind::BlockMappingStart);
        }
        self.allow_simple_key = !self.in_flow();
        self.remove_possible_key()?;
        self.push_char(TokenKind::Key);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<(), YamlError> {
        if let Some(key) = self.take_possible_key() {
            let at = key.token - self.taken;
            let token = |kind| Token { kind, start: key.mark, end: key.mark };
            self.tokens.insert(at, token(TokenKind::Key));
            if !self.in_flow() && self.add_indent(i64::from(key.mark.column)) {
                self.tokens.insert(at, token(TokenKind::BlockMappingStart));
            }
            self.allow_simple_key = false;
        } else {
            if !self.in_flow() {
                if !self.allow_simple_key {
                    return Err(self.error("a map value cannot start here"));
                }
                self.start_block(TokenKind::BlockMappingStart);
            }
            self.allow_simple_key = !self.in_flow();
        }
        self.push_char(TokenKind::Value);
        Ok(())
    }

    fn fetch_name(&mut self, kind: fn(&'a str) -> TokenKind<'a>) -> Result<(), YamlError> {
        let start = self.begin_scalar()?;
        let name = self.scan_name()?;
        self.push(start, kind(name));
        Ok(())
    }

    /// Returns whether a `:` here separates a key from its value.
    ///
    /// In flow context a colon needs no blank behind it, except inside `[`, and directly behind another colon as long
    /// as the parser has not taken that one.
    fn at_value(&self) -> bool {
        if is_separator(self.reader.peek_second()) {
            return true;
        }
        match self.flow.last() {
            Some(_) if self.version == Version::V1_1 => true,
            None | Some(Bracket::Square) => false,
            Some(Bracket::Curly) => self.tokens.back().is_none_or(|token| token.kind != TokenKind::Value),
        }
    }

    fn at_plain(&self) -> bool {
        let behind = self.reader.peek_second();
        match self.reader.peek() {
            '-' => !is_separator(behind),
            '?' => !self.in_flow() && !is_separator(behind),
            ':' if !self.in_flow() => !is_separator(behind),
            ':' => self.version == Version::V1_2 && !matches!(behind, ' ' | '\t'),
            ',' | '[' | ']' | '{' | '}' | '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => false,
            c => !is_separator(c),
        }
    }
}

fn missing_colon(key: SimpleKey) -> YamlError {
    key.mark.error("expected a `:` behind this key, on the same line and within 1024 characters")
}
