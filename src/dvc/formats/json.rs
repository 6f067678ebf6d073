//! JSON as Python's `json.loads` reads it: `NaN` and `Infinity` are numbers, integers have no limit worth mentioning,
//! the last of equal keys wins (at the place of the first), a byte order mark is an error.

use super::SyntaxError;
use crate::dvc::value::{Map, Value, integer};
use crate::dvc::yaml::MAX_DEPTH;

/// A collection that is being read.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map, String),
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let mut parser = Parser { text, offset: 0 };
    let value = parser.document()?;
    parser.skip_blanks();
    if parser.offset < text.len() {
        return Err(parser.error("expected the end of the file"));
    }
    Ok(value)
}

impl Parser<'_> {
    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError::new(self.offset, message)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    fn take(&mut self, literal: &str) -> bool {
        let found = self.text[self.offset..].starts_with(literal);
        if found {
            self.offset += literal.len();
        }
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.offset += 1;
        }
    }

    /// Reads a value with a stack of its own, so that depth costs no recursion.
    fn document(&mut self) -> Result<Value, SyntaxError> {
        let mut stack: Vec<Open> = vec![];
        loop {
            self.skip_blanks();
            let mut value = if self.take("[") {
                self.skip_blanks();
                if !self.take("]") {
                    self.open(&mut stack, Open::List(vec![]))?;
                    continue;
                }
                Value::List(vec![])
            } else if self.take("{") {
                self.skip_blanks();
                if !self.take("}") {
                    let key = self.key()?;
                    self.open(&mut stack, Open::Map(Map::new(), key))?;
                    continue;
                }
                Value::Map(Box::default())
            } else {
                self.scalar()?
            };
            // Close whatever ends here.
            loop {
                self.skip_blanks();
                match stack.pop() {
                    None => return Ok(value),
                    Some(Open::List(mut items)) => {
                        items.push(value);
                        if self.take(",") {
                            stack.push(Open::List(items));
                            break;
                        }
                        if !self.take("]") {
                            return Err(self.error("expected `,` or `]`"));
                        }
                        value = Value::List(items);
                    }
                    Some(Open::Map(mut map, key)) => {
                        map.insert(Value::Str(key), value);
                        if self.take(",") {
                            self.skip_blanks();
                            let key = self.key()?;
                            stack.push(Open::Map(map, key));
                            break;
                        }
                        if !self.take("}") {
                            return Err(self.error("expected `,` or `}`"));
                        }
                        value = Value::Map(Box::new(map));
                    }
                }
            }
        }
    }

    fn open(&self, stack: &mut Vec<Open>, collection: Open) -> Result<(), SyntaxError> {
        if stack.len() >= MAX_DEPTH {
            return Err(self.error(&format!("collections nest deeper than {MAX_DEPTH} levels")));
        }
        stack.push(collection);
        Ok(())
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a key in double quotes"));
        }
        let key = self.string()?;
        self.skip_blanks();
        if !self.take(":") {
            return Err(self.error("expected `:`"));
        }
        Ok(key)
    }

    fn scalar(&mut self) -> Result<Value, SyntaxError> {
        let words = [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ];
        if let Some((_, value)) = words.into_iter().find(|(word, _)| self.take(word)) {
            return Ok(value);
        }
        match self.peek() {
            Some(b'"') => self.string().map(Value::Str),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let rest = &self.text[self.offset..];
        let bytes = rest.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let sign = usize::from(bytes[0] == b'-');
        let mut end = match bytes.get(sign) {
            Some(b'0') => sign + 1,
            Some(b'1'..=b'9') => sign + digits(sign),
            _ => return Err(self.error("expected a number")),
        };
        let integer_end = end;
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.len() > end + sign && digits(end + 1 + sign) > 0 {
                end += 1 + sign + digits(end + 1 + sign);
            }
        }
        let value = if end == integer_end {
            integer(sign == 1, &rest[sign..end], 10).ok_or_else(|| self.error("an integer with too many digits"))?
        } else {
            Value::Float(rest[..end].parse().map_err(|_| self.error("expected a number"))?)
        };
        self.offset += end;
        Ok(value)
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.offset;
        self.offset += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.offset..];
            let run = rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\x1F'));
            let Some(run) = run else {
                return Err(SyntaxError::new(start, "this string does not end"));
            };
            text.push_str(&rest[..run]);
            self.offset += run;
            match rest.as_bytes()[run] {
                b'"' => {
                    self.offset += 1;
                    return Ok(text);
                }
                b'\\' => text.push(self.escape()?),
                _ => return Err(self.error("a control character has to be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let start = self.offset;
        self.offset += 2;
        let escaped = match self.text.as_bytes().get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(SyntaxError::new(start, "unknown escape")),
        };
        Ok(escaped)
    }

    /// Reads the digits behind `\u`, and a second escape where the first is half of a character.
    fn unicode_escape(&mut self, start: usize) -> Result<char, SyntaxError> {
        let first = self.hex(start)?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if self.take("\\u") {
            let second = self.hex(start)?;
            if (0xD800..0xDC00).contains(&first) && (0xDC00..0xE000).contains(&second) {
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return char::from_u32(code).ok_or_else(|| SyntaxError::new(start, "this escape is not a character"));
            }
        }
        // Python would make a string of a lone surrogate, which then cannot be written anywhere.
        Err(SyntaxError::new(start, "this escape is not a character"))
    }

    fn hex(&mut self, start: usize) -> Result<u32, SyntaxError> {
        let digits = self.text.get(self.offset..self.offset + 4);
        let code = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| SyntaxError::new(start, "expected four hexadecimal digits"))?;
        self.offset += 4;
        Ok(code)
    }
}
