//! Scalars as they stand in a lock file, and what they mean.

use std::borrow::Cow;

/// A scalar's text in the file, with its quotes and folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar<'t> {
    pub raw: &'t str,
    pub style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
}

impl<'t> Scalar<'t> {
    /// The scalar whose text, quotes included, is `raw`.
    pub(super) fn of(raw: &'t str) -> Self {
        let style = match raw.as_bytes().first() {
            Some(b'\'') => Style::Single,
            Some(b'"') => Style::Double,
            _ => Style::Plain,
        };
        Scalar { raw, style }
    }

    /// Returns the text that the scalar stands for, or `None` for an escape that YAML does not know.
    pub(super) fn text(&self) -> Option<Cow<'t, str>> {
        match self.style {
            Style::Plain => Some(unfold(self.raw.trim_matches([' ', '\n']))),
            Style::Single => {
                let text = unfold(inside(self.raw));
                Some(if text.contains('\'') { Cow::Owned(text.replace("''", "'")) } else { text })
            }
            Style::Double => {
                let text = inside(self.raw);
                if text.contains(['\\', '\n']) { unescape(text).map(Cow::Owned) } else { Some(Cow::Borrowed(text)) }
            }
        }
    }
}

/// The text between the quotes.
fn inside(raw: &str) -> &str {
    &raw[1..raw.len() - 1]
}

/// Joins lines by a blank each, without the blanks around the breaks.
fn unfold(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let mut joined = String::with_capacity(text.len());
    let mut lines = text.split('\n').peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        let line = if first { line } else { line.trim_start_matches(' ') };
        joined.push_str(if lines.peek().is_some() { line.trim_end_matches(' ') } else { line });
        if lines.peek().is_some() {
            joined.push(' ');
        }
        first = false;
    }
    Cow::Owned(joined)
}

/// Resolves the escapes and line breaks of a double-quoted scalar.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    // Blanks in front of a break go, escaped ones stay.
    let mut kept = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.truncate(out[kept..].trim_end_matches(' ').len() + kept);
                out.push(' ');
                kept = out.len();
                skip_blanks(&mut chars);
            }
            '\\' => {
                match chars.next()? {
                    '\n' => skip_blanks(&mut chars),
                    'x' => out.push(hexadecimal(&mut chars, 2)?),
                    'u' => out.push(hexadecimal(&mut chars, 4)?),
                    'U' => out.push(hexadecimal(&mut chars, 8)?),
                    letter => out.push(escape(letter)?),
                }
                kept = out.len();
            }
            c => out.push(c),
        }
    }
    Some(out)
}

fn skip_blanks(chars: &mut std::str::Chars<'_>) {
    while chars.as_str().starts_with(' ') {
        chars.next();
    }
}

fn hexadecimal(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text = chars.as_str().get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let code = u32::from_str_radix(text, 16).ok()?;
    *chars = chars.as_str()[digits..].chars();
    char::from_u32(code)
}

fn escape(letter: char) -> Option<char> {
    Some(match letter {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        ' ' | '"' | '\\' | '/' => letter,
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, text: Option<&str>) {
        assert_eq!(Scalar::of(raw).text().as_deref(), text);
    }

    #[test]
    fn scalars_mean_what_dvc_wrote() {
        check("plain", Some("plain"));
        check("two \n      lines", Some("two lines"));
        check("'it''s'", Some("it's"));
        check("'k: a\n      b'", Some("k: a b"));
        check("\"a\\nb\\x7F\\uFEFF\\\\\"", Some("a\nb\u{7f}\u{feff}\\"));
        check("\"a b\\\n      \\  c\"", Some("a b  c"));
        check("\"a \n  b\"", Some("a b"));
        check("\"a\\t\n  b\"", Some("a\t b"));
        check("\"\\q\"", None);
        check("\"\\x+1\"", None);
        check("''", Some(""));
    }
}
