//! The scanner's part for directives, tags, anchors and aliases.

use super::reader::{END, is_break, is_break_or_end, is_separator};
use super::scanner::Scanner;
use super::token::{Directive, TagName};
use super::{Version, YamlError};

impl<'a> Scanner<'a> {
    pub(super) fn scan_directive(&mut self) -> Result<Directive, YamlError> {
        self.reader.advance();
        let name = self.reader.take_while(|c, _| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'));
        if name.is_empty() || !self.at_blank_or_end() {
            return Err(self.error("expected the name of a directive"));
        }
        let directive = match name {
            "YAML" => self.scan_yaml_directive()?,
            "TAG" => self.scan_tag_directive()?,
            _ => {
                self.reader.take_while(|c, _| !is_break(c));
                Directive::Unknown
            }
        };
        self.finish_line("a directive")?;
        Ok(directive)
    }

    fn scan_yaml_directive(&mut self) -> Result<Directive, YamlError> {
        self.reader.skip_spaces();
        let major = self.scan_version_number()?;
        if self.reader.peek() != '.' {
            return Err(self.error("expected a version such as 1.2"));
        }
        self.reader.advance();
        let minor = self.scan_version_number()?;
        if !self.at_blank_or_end() {
            return Err(self.error("expected a version such as 1.2"));
        }
        // Versions that do not exist are refused by the parser.
        self.version = if (major, minor) == (1, 1) { Version::V1_1 } else { Version::V1_2 };
        Ok(Directive::Yaml { major, minor })
    }

    fn scan_version_number(&mut self) -> Result<u32, YamlError> {
        let digits = self.reader.take_while(|c, _| c.is_ascii_digit());
        digits.parse().map_err(|_| self.error("expected a version such as 1.2"))
    }

    fn scan_tag_directive(&mut self) -> Result<Directive, YamlError> {
        self.reader.skip_spaces();
        let handle = self.scan_tag_handle()?;
        if self.reader.peek() != ' ' {
            return Err(self.error("expected a blank behind the tag handle"));
        }
        self.reader.skip_spaces();
        let prefix = self.scan_tag_uri()?;
        if !self.at_blank_or_end() {
            return Err(self.error("expected the end of the tag prefix"));
        }
        Ok(Directive::Tag { handle: handle.to_owned(), prefix })
    }

    /// Moves past blanks, a comment and the line break; nothing else may follow.
    pub(super) fn finish_line(&mut self, what: &str) -> Result<(), YamlError> {
        self.reader.skip_spaces();
        self.reader.skip_comment();
        if !is_break_or_end(self.reader.peek()) {
            return Err(self.error(format!("expected a comment or a line break behind {what}")));
        }
        self.reader.take_break();
        Ok(())
    }

    /// Scans the name of an anchor or alias behind its `&` or `*`. (A colon is part of the name.)
    pub(super) fn scan_name(&mut self) -> Result<&'a str, YamlError> {
        let start = self.reader.mark();
        self.reader.advance();
        let name = self.reader.take_while(|c, _| is_name_character(c));
        let behind = self.reader.peek();
        if name.is_empty() {
            return Err(start.error("expected the name of an anchor or alias"));
        }
        if !is_separator(behind) && !matches!(behind, ',' | '[' | ']' | '{' | '}') {
            return Err(self.error(format!("`{behind}` cannot follow the name of an anchor or alias")));
        }
        Ok(name)
    }

    pub(super) fn scan_tag(&mut self) -> Result<TagName<'a>, YamlError> {
        let mut handle = "!";
        if self.reader.peek_second() == '!' {
            handle = "!!";
            self.reader.advance();
        }
        let tag = match self.reader.peek_second() {
            '<' => {
                self.reader.advance_by(2);
                let suffix = self.scan_tag_uri()?;
                if self.reader.peek() != '>' {
                    return Err(self.error("expected `>` at the end of a tag"));
                }
                self.reader.advance();
                TagName { handle: None, suffix }
            }
            c if is_separator(c) => {
                self.reader.advance();
                TagName { handle: None, suffix: handle.to_owned() }
            }
            _ => {
                if self.tag_has_handle() {
                    handle = self.scan_tag_handle()?;
                } else {
                    self.reader.advance();
                }
                TagName { handle: Some(handle), suffix: self.scan_tag_uri()? }
            }
        };
        if !self.at_blank_or_end() {
            return Err(self.error("expected a blank behind the tag"));
        }
        Ok(tag)
    }

    /// Returns whether another `!` follows in this word. Tabs do not end it.
    fn tag_has_handle(&self) -> bool {
        self.reader.rest().chars().skip(1).take_while(|c| *c != ' ' && !is_break(*c)).any(|c| c == '!')
    }

    fn scan_tag_handle(&mut self) -> Result<&'a str, YamlError> {
        let error = self.error("expected a tag handle such as `!` or `!name!`");
        if self.reader.peek() != '!' {
            return Err(error);
        }
        if self.reader.peek_second() == ' ' {
            self.reader.advance();
            return Ok("!");
        }
        let rest = self.reader.rest();
        let name = rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let Some(end) = name.map(|length| length + 1).filter(|end| rest[*end..].starts_with('!')) else {
            return Err(error);
        };
        let handle = &rest[..=end];
        self.reader.advance_by(handle.len());
        Ok(handle)
    }

    /// Scans what is behind a tag's handle and decodes its `%` escapes.
    fn scan_tag_uri(&mut self) -> Result<String, YamlError> {
        let start = self.reader.mark();
        let allow_hash = self.version == Version::V1_2;
        let raw = self.reader.take_while(|c, _| {
            c.is_ascii_alphanumeric() || "-;/?:@&=+$,_.!~*'()[]%".contains(c) || (allow_hash && c == '#')
        });
        if raw.is_empty() {
            return Err(start.error("expected the name of a tag"));
        }
        decode_percent(raw).ok_or_else(|| start.error("expected `%` and two hexadecimal digits of UTF-8 text in a tag"))
    }

    fn at_blank_or_end(&self) -> bool {
        let c = self.reader.peek();
        c == ' ' || c == END || is_break(c)
    }
}

fn is_name_character(c: char) -> bool {
    match c {
        ',' | '[' | ']' | '{' | '}' | '\u{FEFF}' => false,
        '!'..='~' => true,
        _ => c >= '\u{A0}',
    }
}

fn decode_percent(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok().filter(|text| !text.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}
