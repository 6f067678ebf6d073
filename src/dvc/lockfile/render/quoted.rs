//! Texts in quotes, broken into lines as `ruamel.yaml` breaks them.

use super::{Place, WIDTH, Writer, is_break, is_odd};

impl Writer {
    /// Writes a text in single quotes: a quote twice, a break raw, a single blank behind the width as a new line.
    pub(super) fn single_quoted(&mut self, text: &str, column: usize, place: Place) {
        self.push("'");
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let first = rest.chars().next().expect("text is left");
            let length = if first == ' ' {
                let length = rest.find(|c| c != ' ').unwrap_or(rest.len());
                let is_inside = at > 0 && length < rest.len();
                if length == 1 && is_inside && self.column > WIDTH && place != Place::SimpleKey {
                    self.line(column);
                } else {
                    self.push(&rest[..length]);
                }
                length
            } else if is_break(first) {
                let length = rest.find(|c| !is_break(c)).unwrap_or(rest.len());
                self.text.push_str(&rest[..length]);
                self.indent(column);
                length
            } else {
                let length = rest.find(|c| c == ' ' || is_break(c)).unwrap_or(rest.len());
                self.push(&rest[..length].replace('\'', "''"));
                length
            };
            at += length;
        }
        self.push("'");
    }

    /// Writes a text in double quotes, with escapes.
    pub(super) fn double_quoted(&mut self, text: &str, column: usize, place: Place) {
        let text: Vec<char> = text.chars().collect();
        let length = text.len();
        let mut start = 0;
        self.push("\"");
        for end in 0..=length {
            let next = text.get(end).copied();
            if next.is_none_or(is_escaped) {
                self.characters(&text, start, end);
                start = end;
                if let Some(next) = next {
                    self.push(&escape(next));
                    start = end + 1;
                }
            }
            let is_inside = 0 < end && end + 1 < length;
            let may_break = is_inside && (next == Some(' ') || start >= end) && place != Place::SimpleKey;
            // Behind an escape `start` is one further than `end`.
            if may_break && self.column + end > WIDTH + start {
                let needs_backslash = needs_backslash(&text, start, end);
                self.characters(&text, start, end);
                start = start.max(end);
                if needs_backslash {
                    self.push("\\");
                }
                self.line(column);
                if text.get(start) == Some(&' ') {
                    if needs_backslash {
                        self.push("\\");
                    } else {
                        start += 1;
                    }
                }
            }
        }
        self.push("\"");
    }

    fn characters(&mut self, text: &[char], start: usize, end: usize) {
        if start < end {
            self.text.extend(&text[start..end]);
            self.column += end - start;
        }
    }
}

/// Whether a line that is broken before `end` ends in a backslash.
///
/// Where the break falls behind an escape and there is a blank further on, the writer leaves it out by mistake: read
/// again, the text has a blank more.
fn needs_backslash(text: &[char], start: usize, end: usize) -> bool {
    let find = |from: usize, to: usize, wanted: char| (from..to).find(|&at| text[at] == wanted);
    let Some(blank) = find(end, text.len(), ' ') else { return true };
    let place = find(end, blank, '\n').unwrap_or(blank);
    let Some(&behind) = text.get(place + 1) else { return true };
    if text[place] == '\n' && behind != ' ' {
        return true;
    }
    let has_quotes = text[end..place].iter().any(|c| matches!(c, '"' | '\''));
    let is_between_blanks = text[end - 1] == ' ' && text[end] == ' ';
    has_quotes || matches!(behind, ' ' | '\n') || is_between_blanks || start == end
}

fn is_escaped(c: char) -> bool {
    matches!(c, '"' | '\\') || is_break(c) || is_odd(c)
}

fn escape(c: char) -> String {
    let letter = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            return match u32::from(c) {
                code @ 0..=0xff => format!("\\x{code:02X}"),
                code @ 0x100..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{letter}")
}
