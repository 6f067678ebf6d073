//! Tokens of Python 3.11, with logical lines and indentation.

use crate::dvc::formats::SyntaxError;

/// Python allows this many open brackets.
const MAX_BRACKETS: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind<'a> {
    Name(&'a str),
    Number(&'a str),
    String(StringValue),
    Operator(&'a str),
    /// The end of a logical line; empty lines have none.
    Newline,
    Indent,
    Dedent,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum StringValue {
    Text(String),
    Bytes(Vec<u8>),
    /// An f-string, which is no literal.
    Formatted,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: TokenKind<'a>,
    pub offset: usize,
}

const OPERATORS: [&str; 47] = [
    "**=", "//=", ">>=", "<<=", "...", "==", "!=", "<=", ">=", "->", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    "@=", ":=", "**", "//", "<<", ">>", "+", "-", "*", "/", "%", "@", "&", "|", "^", "~", "<", ">", "(", ")", "[", "]",
    "{", "}", ",", ":", ".", ";", "=",
];

pub(super) fn tokenize(text: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut tokenizer = Tokenizer { text, offset: 0, tokens: vec![], indents: vec![], brackets: vec![] };
    tokenizer.run()?;
    Ok(tokenizer.tokens)
}

struct Tokenizer<'a> {
    text: &'a str,
    offset: usize,
    tokens: Vec<Token<'a>>,
    /// Columns of the open blocks.
    indents: Vec<usize>,
    /// The closing bracket of each open one.
    brackets: Vec<u8>,
}

impl<'a> Tokenizer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError::new(self.offset, message)
    }

    fn push(&mut self, offset: usize, kind: TokenKind<'a>) {
        self.tokens.push(Token { kind, offset });
    }

    fn run(&mut self) -> Result<(), SyntaxError> {
        let mut line_start = true;
        loop {
            if line_start && self.brackets.is_empty() {
                self.indentation()?;
                line_start = false;
            }
            let rest = self.rest();
            self.offset += rest.len() - rest.trim_start_matches([' ', '\t', '\x0C']).len();
            match self.peek() {
                None => break,
                Some(b'#') => self.offset += self.rest().find('\n').unwrap_or(self.rest().len()),
                Some(b'\n') => {
                    if self.brackets.is_empty() {
                        self.push(self.offset, TokenKind::Newline);
                        line_start = true;
                    }
                    self.offset += 1;
                }
                Some(b'\\') if self.rest().starts_with("\\\n") => self.offset += 2,
                Some(_) => self.token()?,
            }
        }
        if !self.brackets.is_empty() {
            return Err(self.error("a bracket is not closed"));
        }
        if self.tokens.last().is_some_and(|token| token.kind != TokenKind::Newline) {
            self.push(self.offset, TokenKind::Newline);
        }
        for _ in 0..self.indents.len() {
            self.push(self.offset, TokenKind::Dedent);
        }
        self.push(self.offset, TokenKind::End);
        Ok(())
    }

    /// Skips empty lines and compares the indentation of the next one.
    fn indentation(&mut self) -> Result<(), SyntaxError> {
        loop {
            let mut column = 0;
            for byte in self.rest().bytes() {
                match byte {
                    b' ' => column += 1,
                    b'\t' => column = (column / 8 + 1) * 8,
                    b'\x0C' => column = 0,
                    _ => break,
                }
                self.offset += 1;
            }
            if self.peek() == Some(b'#') {
                self.offset += self.rest().find('\n').unwrap_or(self.rest().len());
            }
            match self.peek() {
                None => return Ok(()),
                Some(b'\n') => self.offset += 1,
                Some(_) => return self.indent_to(column),
            }
        }
    }

    fn indent_to(&mut self, column: usize) -> Result<(), SyntaxError> {
        if column > self.indents.last().copied().unwrap_or(0) {
            if self.indents.len() >= MAX_BRACKETS / 2 {
                return Err(self.error("too many levels of indentation"));
            }
            self.indents.push(column);
            self.push(self.offset, TokenKind::Indent);
            return Ok(());
        }
        while self.indents.pop_if(|indent| *indent > column).is_some() {
            self.push(self.offset, TokenKind::Dedent);
        }
        if self.indents.last().copied().unwrap_or(0) != column {
            return Err(self.error("unindent does not match any outer level"));
        }
        Ok(())
    }

    fn token(&mut self) -> Result<(), SyntaxError> {
        let start = self.offset;
        let rest = self.rest();
        let mut chars = rest.chars();
        let (first, second) = (chars.next().unwrap_or('\0'), chars.next().unwrap_or('\0'));
        if matches!(first, '"' | '\'') {
            return self.string(start, "");
        }
        if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) {
            let length = number_length(rest.as_bytes());
            self.offset += length;
            self.push(start, TokenKind::Number(&rest[..length]));
            return Ok(());
        }
        if is_name_start(first) {
            let length = rest.find(|c: char| !is_name_start(c) && !c.is_alphanumeric()).unwrap_or(rest.len());
            let name = &rest[..length];
            self.offset += length;
            if matches!(self.peek(), Some(b'"' | b'\'')) && is_string_prefix(name) {
                return self.string(start, name);
            }
            self.push(start, TokenKind::Name(name));
            return Ok(());
        }
        let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
        let operator = *operator.ok_or_else(|| self.error("unexpected character"))?;
        self.follow_bracket(operator)?;
        self.offset += operator.len();
        self.push(start, TokenKind::Operator(operator));
        Ok(())
    }

    fn follow_bracket(&mut self, operator: &str) -> Result<(), SyntaxError> {
        let close = match operator {
            "(" => b')',
            "[" => b']',
            "{" => b'}',
            ")" | "]" | "}" => {
                let matches = self.brackets.pop() == operator.bytes().next();
                return if matches { Ok(()) } else { Err(self.error("this bracket closes none")) };
            }
            _ => return Ok(()),
        };
        if self.brackets.len() >= MAX_BRACKETS {
            return Err(self.error("too many open brackets"));
        }
        self.brackets.push(close);
        Ok(())
    }

    /// Reads a string whose prefix has been read.
    fn string(&mut self, start: usize, prefix: &str) -> Result<(), SyntaxError> {
        let prefix = prefix.to_ascii_lowercase();
        let quote = &self.rest()[..1];
        let triple = [quote; 3].concat();
        let delimiter = if self.rest().starts_with(&triple) { triple } else { quote.to_owned() };
        self.offset += delimiter.len();
        let body_start = self.offset;
        loop {
            match self.peek() {
                _ if self.rest().starts_with(&delimiter) => break,
                Some(b'\n') if delimiter.len() == 1 => return Err(SyntaxError::new(start, "this string does not end")),
                // Whatever is behind a backslash does not end the string, in a raw one either.
                Some(b'\\') => self.advance_char(),
                Some(_) => {}
                None => return Err(SyntaxError::new(start, "this string does not end")),
            }
            self.advance_char();
        }
        let body = &self.text[body_start..self.offset];
        self.offset += delimiter.len();
        let is_bytes = prefix.contains('b');
        if is_bytes && !body.is_ascii() {
            return Err(SyntaxError::new(start, "bytes can only contain ASCII characters"));
        }
        let value = if prefix.contains('f') {
            StringValue::Formatted
        } else if prefix.contains('r') {
            if is_bytes { StringValue::Bytes(body.into()) } else { StringValue::Text(body.to_owned()) }
        } else if is_bytes {
            StringValue::Bytes(unescape_bytes(body).map_err(|message| SyntaxError::new(start, message))?)
        } else {
            StringValue::Text(unescape_text(body).map_err(|message| SyntaxError::new(start, message))?)
        };
        self.push(start, TokenKind::String(value));
        Ok(())
    }

    fn advance_char(&mut self) {
        self.offset += self.rest().chars().next().map_or(0, char::len_utf8);
    }
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_string_prefix(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "r" | "u" | "b" | "f" | "br" | "rb" | "fr" | "rf")
}

/// Returns the length of the number that the text begins with. What it is worth is for the literal to find out.
fn number_length(text: &[u8]) -> usize {
    if let [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..] = text {
        return 2 + text[2..].iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'_').count();
    }
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
    let mut end = digits(0);
    if text.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        if text.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    end + usize::from(matches!(text.get(end), Some(b'j' | b'J')))
}

/// One piece of a string's body.
enum Piece<'a> {
    Plain(&'a str),
    Code(u32),
}

fn unescape_text(body: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(body.len());
    unescape(body, true, |piece| {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            // Python would make a string of a lone surrogate, which then cannot be written anywhere.
            Piece::Code(code) => text.push(char::from_u32(code).ok_or("an escape in this string is not a character")?),
        }
        Ok(())
    })?;
    Ok(text)
}

fn unescape_bytes(body: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(body.len());
    unescape(body, false, |piece| {
        match piece {
            Piece::Plain(plain) => bytes.extend_from_slice(plain.as_bytes()),
            Piece::Code(code) => bytes.push(code.to_le_bytes()[0]),
        }
        Ok(())
    })?;
    Ok(bytes)
}

fn unescape<'a>(
    body: &'a str,
    is_text: bool,
    mut push: impl FnMut(Piece<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        push(Piece::Plain(&rest[..at]))?;
        let behind = &rest[at + 1..];
        let (code, length) = match behind.as_bytes().first() {
            Some(b'\n') => (None, 1),
            Some(c @ (b'\\' | b'\'' | b'"')) => (Some(u32::from(*c)), 1),
            Some(b'a') => (Some(7), 1),
            Some(b'b') => (Some(8), 1),
            Some(b't') => (Some(9), 1),
            Some(b'n') => (Some(10), 1),
            Some(b'v') => (Some(11), 1),
            Some(b'f') => (Some(12), 1),
            Some(b'r') => (Some(13), 1),
            Some(b'0'..=b'7') => {
                let length = behind.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                (u32::from_str_radix(&behind[..length], 8).ok(), length)
            }
            Some(b'x') => (Some(hex(behind, 2)?), 3),
            Some(b'u') if is_text => (Some(hex(behind, 4)?), 5),
            Some(b'U') if is_text => (Some(hex(behind, 8)?), 9),
            Some(b'N') if is_text => return Err("characters by name (`\\N{…}`) are not supported"),
            // Any other backslash stands for itself.
            _ => (Some(u32::from(b'\\')), 0),
        };
        if let Some(code) = code {
            push(Piece::Code(code))?;
        }
        rest = &behind[length..];
    }
    push(Piece::Plain(rest))
}

fn hex(behind: &str, length: usize) -> Result<u32, &'static str> {
    let digits = behind.get(1..=length).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or("an escape in this string lacks digits")
}
