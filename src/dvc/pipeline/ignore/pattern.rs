//! One line of a `.dvcignore`, as pathspec 1.1 reads it (which is not quite as git does: `*/` matches nothing).

use thiserror::Error;

/// A compiled pattern; paths are matched relative to the directory it is based on.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// Whether a match re-includes (`!`).
    pub negated: bool,
    /// Whether it ends in `/` and so leaves files alone.
    pub directories_only: bool,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Everything,
    Nothing,
    Segments(Vec<Segment>),
}

#[derive(Clone, Debug)]
enum Segment {
    /// `**` at the start or between others: any number of components.
    Any,
    /// `**` or `/` at the end: at least one more component, or a trailing slash.
    Below,
    Glob(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    One,
    Many,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

/// A line at which DVC fails.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a pattern")]
pub(crate) struct PatternError(pub String);

impl Pattern {
    /// Compiles a line without surrounding blanks; `None` if it matches nothing by design (a comment, `/`, `[`).
    pub(crate) fn compile(line: &str) -> Result<Option<Pattern>, PatternError> {
        if line.is_empty() || line.starts_with('#') || line == "/" {
            return Ok(None);
        }
        let (negated, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let mut names: Vec<&str> = pattern.split('/').collect();
        let directories_only = names[names.len() - 1].is_empty();
        if names[0].is_empty() {
            names.remove(0);
        } else if (names.len() == 1 || (names.len() == 2 && names[1].is_empty())) && names[0] != "**" {
            names.insert(0, "**");
        }
        let Some(last) = names.last_mut() else { return Err(PatternError(line.to_owned())) };
        if last.is_empty() {
            *last = "**";
        }
        names.dedup_by(|a, b| *a == "**" && *b == "**");
        let shape = match names.as_slice() {
            ["**"] | ["**", "*", "**"] if directories_only => Shape::Nothing,
            ["**"] | ["**", "*"] => Shape::Everything,
            _ => match segments(&names, line)? {
                Some(segments) => Shape::Segments(segments),
                None => return Ok(None),
            },
        };
        Ok(Some(Pattern { negated, directories_only, shape }))
    }

    /// Whether the components match, or the first of them do (`foo` matches `foo/bar`).
    pub(crate) fn matches(&self, components: &[&str], is_dir: bool) -> bool {
        match &self.shape {
            Shape::Everything => true,
            Shape::Nothing => false,
            Shape::Segments(segments) => matches_segments(segments, components, is_dir),
        }
    }
}

fn segments(names: &[&str], line: &str) -> Result<Option<Vec<Segment>>, PatternError> {
    let mut segments = vec![];
    for (position, name) in names.iter().enumerate() {
        segments.push(match *name {
            "**" if position == 0 || position + 1 < names.len() => Segment::Any,
            "**" => Segment::Below,
            name => match glob(name, line)? {
                Some(tokens) => Segment::Glob(tokens),
                None => return Ok(None),
            },
        });
    }
    Ok(Some(segments))
}

/// Compiles one name; `None` if a `[` is never closed, which drops the whole line.
fn glob(name: &str, line: &str) -> Result<Option<Vec<Token>>, PatternError> {
    let chars: Vec<char> = name.chars().collect();
    let mut tokens = vec![];
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        tokens.push(match c {
            '\\' => {
                let escaped = chars.get(at).ok_or_else(|| PatternError(line.to_owned()))?;
                at += 1;
                Token::Char(*escaped)
            }
            '*' => Token::Many,
            '?' => Token::One,
            '[' => {
                let negated = matches!(chars.get(at), Some('!' | '^'));
                let start = at + usize::from(negated);
                let search = start + usize::from(chars.get(start) == Some(&']'));
                let Some(length) = chars.get(search..).and_then(|rest| rest.iter().position(|c| *c == ']')) else {
                    return Ok(None);
                };
                at = search + length + 1;
                Token::Set { negated, ranges: ranges(&chars[start..search + length], line)? }
            }
            c => Token::Char(c),
        });
    }
    Ok(Some(tokens))
}

fn ranges(chars: &[char], line: &str) -> Result<Vec<(char, char)>, PatternError> {
    let mut ranges = vec![];
    let mut at = 0;
    while let Some(&low) = chars.get(at) {
        let high = match (chars.get(at + 1), chars.get(at + 2)) {
            (Some('-'), Some(&high)) => {
                at += 2;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(PatternError(line.to_owned()));
        }
        ranges.push((low, high));
        at += 1;
    }
    Ok(ranges)
}

fn matches_segments(segments: &[Segment], components: &[&str], is_dir: bool) -> bool {
    match segments.split_first() {
        None => true,
        Some((Segment::Below, _)) => !components.is_empty() || is_dir,
        Some((Segment::Any, rest)) => {
            (0..=components.len()).any(|skipped| matches_segments(rest, &components[skipped..], is_dir))
        }
        Some((Segment::Glob(tokens), rest)) => components
            .split_first()
            .is_some_and(|(name, after)| matches_glob(tokens, name) && matches_segments(rest, after, is_dir)),
    }
}

/// Matches a whole name. `*` is tried from the last one back, so that the work stays quadratic.
fn matches_glob(tokens: &[Token], name: &str) -> bool {
    if let [Token::Many] = tokens {
        return !name.is_empty();
    }
    let chars: Vec<char> = name.chars().collect();
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < chars.len() {
        if matches!(tokens.get(token), Some(Token::Many)) {
            retry = Some((token, at));
            token += 1;
        } else if tokens.get(token).is_some_and(|token| matches_char(token, chars[at])) {
            token += 1;
            at += 1;
        } else if let Some((many, from)) = retry {
            retry = Some((many, from + 1));
            token = many + 1;
            at = from + 1;
        } else {
            return false;
        }
    }
    tokens[token..].iter().all(|token| matches!(token, Token::Many))
}

fn matches_char(token: &Token, c: char) -> bool {
    match token {
        Token::Char(expected) => *expected == c,
        Token::One | Token::Many => true,
        Token::Set { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, path: &str, expected: bool) {
        let pattern = Pattern::compile(line).expect(line);
        let is_dir = path.ends_with('/');
        let components: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let matched = pattern
            .is_some_and(|pattern| (is_dir || !pattern.directories_only) && pattern.matches(&components, is_dir));
        assert_eq!(matched, expected, "{line} on {path}");
    }

    #[test]
    fn patterns_match_as_in_pathspec() {
        check("foo", "foo", true);
        check("foo", "a/foo", true);
        check("foo", "a/foo/b", true);
        check("foo", "afoo", false);
        check("/foo", "a/foo", false);
        check("a/b", "a/b", true);
        check("a/b", "x/a/b", false);
        check("foo/", "foo", false);
        check("foo/", "foo/", true);
        check("foo/", "a/foo/", true);
        check("a/**/c", "a/c", true);
        check("a/**/c", "a/b/b/c", true);
        check("a/**", "a/b", true);
        check("a/**", "a", false);
        check("**/c", "a/b/c", true);
        check("*", "a", true);
        check("/*", "a/b", true);
        check("**", "a/b", true);
        check("*/", "a/", false);
        check("**/", "a/", false);
        check("*.csv", "d/x.csv", true);
        check("a?c", "abc", true);
        check("[a-c]x", "bx", true);
        check("[!a-c]x", "bx", false);
        check("[]]x", "]x", true);
        check("[abc", "[abc", false);
        check(r"\#a", "#a", true);
        check("#a", "#a", false);
        check("/", "a", false);
        check("a*b*c", "aXbYbZc", true);
        check("a//b", "a/b", false);
    }

    #[test]
    fn what_crashes_dvc_is_an_error() {
        for line in ["!", r"a\", "[z-a]"] {
            assert!(Pattern::compile(line).is_err(), "{line}");
        }
    }
}
