//! The grammar of interpolation: where `${…}` stands in a string, and what it looks up.
//!
//! As in `dvc/parsing/interpolate.py` of DVC 3.67: an expression starts at a `${` that no backslash precedes and ends at
//! the first `}` of the line; inside stands `word ( '.' word | '[' word ']' )*`, a word being anything but `.[]`.

use std::ops::Range;

use thiserror::Error;

/// A string that is parsed once and filled in for every stage.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Literal(String),
    Expression(Expression),
}

/// One `${…}`.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// As written, between the braces.
    pub source_text: String,
    /// What to look up, one key or index after another, blanks stripped.
    pub words: Vec<String>,
}

/// An expression that does not follow the grammar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`${{{source_text}}}` is not an expression: {problem}")]
pub(crate) struct SyntaxError {
    pub source_text: String,
    /// Where the problem is in `source_text`, in characters.
    pub at: usize,
    pub problem: &'static str,
}

impl Text {
    /// Parses a string; `None` if it comes out of interpolation as it is.
    pub(crate) fn parse(text: &str) -> Result<Option<Text>, SyntaxError> {
        let mut pieces = vec![];
        let mut end = 0;
        for range in expressions(text) {
            if range.start > end {
                pieces.push(Piece::Literal(text[end..range.start].to_owned()));
            }
            let inner = &text[range.start + 2..range.end - 1];
            let words = parse_words(inner).map_err(|(at, problem)| SyntaxError {
                source_text: inner.to_owned(),
                at,
                problem,
            })?;
            pieces.push(Piece::Expression(Expression { source_text: inner.to_owned(), words }));
            end = range.end;
        }
        if pieces.is_empty() && !text.contains("\\${") {
            return Ok(None);
        }
        if end < text.len() {
            pieces.push(Piece::Literal(text[end..].to_owned()));
        }
        Ok(Some(Text { pieces }))
    }

    /// Returns the expression if the string is nothing else, so that the value keeps its type.
    pub(crate) fn as_whole(&self) -> Option<&Expression> {
        match self.pieces.as_slice() {
            [Piece::Expression(expression)] => Some(expression),
            _ => None,
        }
    }
}

/// Whether the string holds an expression, well-formed or not.
pub(crate) fn is_interpolated(text: &str) -> bool {
    expressions(text).next().is_some()
}

/// Returns the ranges of `${…}` in a string.
fn expressions(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text[from..].find("${") {
            let start = from + found;
            from = start + 2;
            if text[..start].ends_with('\\') {
                continue;
            }
            let line = text[from..].split('\n').next().unwrap_or_default();
            if let Some(length) = line.find('}') {
                from += length + 1;
                return Some(start..from);
            }
        }
        None
    })
}

fn parse_words(source: &str) -> Result<Vec<String>, (usize, &'static str)> {
    let chars: Vec<char> = source.chars().collect();
    let mut at = 0;
    let mut words = vec![word(&chars, &mut at)?];
    loop {
        skip_blanks(&chars, &mut at);
        match chars.get(at) {
            None => return Ok(words),
            Some('.') => {
                at += 1;
                words.push(word(&chars, &mut at)?);
            }
            Some('[') => {
                at += 1;
                words.push(word(&chars, &mut at)?);
                if chars.get(at) != Some(&']') {
                    return Err((at, "expected `]`"));
                }
                at += 1;
            }
            Some(_) => return Err((at, "expected `.`, `[` or the end")),
        }
    }
}

fn word(chars: &[char], at: &mut usize) -> Result<String, (usize, &'static str)> {
    let start = *at;
    while chars.get(*at).is_some_and(|c| !matches!(c, '.' | '[' | ']')) {
        *at += 1;
    }
    if *at == start {
        return Err((start, "expected a key or an index"));
    }
    Ok(chars[start..*at].iter().collect::<String>().trim().to_owned())
}

fn skip_blanks(chars: &[char], at: &mut usize) {
    while chars.get(*at).is_some_and(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&[&str]]) {
        let parsed = Text::parse(text).expect(text);
        let found: Vec<Vec<String>> = parsed
            .iter()
            .flat_map(|text| &text.pieces)
            .filter_map(|piece| match piece {
                Piece::Expression(expression) => Some(expression.words.clone()),
                Piece::Literal(_) => None,
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, at: usize) {
        assert_eq!(Text::parse(text).expect_err(text).at, at, "{text}");
    }

    #[test]
    fn expressions_are_found() {
        check("${a}", &[&["a"]]);
        check("x${a}y${b.c}z", &[&["a"], &["b", "c"]]);
        check("${ a . b[0] }", &[&["a", "b", "0"]]);
        check("${a[0][1].x}", &[&["a", "0", "1", "x"]]);
        check("${a[0] .b}", &[&["a", "0", "b"]]);
        check("${x:-1} ${#x}", &[&["x:-1"], &["#x"]]);
        check("${${x}}", &[&["${x"]]);
        check("$${x}", &[&["x"]]);
        check("${a\n${b}", &[&["b"]]);
        check(r"\${x} $x $ {x} ${", &[]);
        check("${ }", &[&[""]]);
    }

    #[test]
    fn a_syntax_error_says_where() {
        check_error("${}", 0);
        check_error("${.a}", 0);
        check_error("${a.}", 2);
        check_error("${a..b}", 2);
        check_error("${a[]}", 2);
        check_error("${a[b.c]}", 3);
        check_error("${a]}", 1);
        check_error("${a[0]b}", 4);
        check_error("${a[0}", 3);
    }

    #[test]
    fn a_plain_string_needs_no_work() {
        assert!(Text::parse("a $b {c}").expect("valid").is_none());
        assert!(Text::parse(r"\${a}").expect("valid").is_some());
    }
}
