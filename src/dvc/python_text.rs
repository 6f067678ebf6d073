//! Texts as Python writes and matches them: `str()`, `repr()`, `shlex.quote` and `fnmatch`.

use std::fmt::Write as _;

use super::value::Value;

/// The text of a value, as `str`.
///
/// (Where DVC puts a value into a string it spells bools in lower case; that is for the caller.)
pub(crate) fn str_of(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::Date(text) => text.replacen('T', " ", 1),
        other => repr(other),
    }
}

/// The text of a value inside a collection, as `repr`. (Only dates are written as `str` does.)
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BigInt(digits) => digits.clone(),
        Value::Float(number) => float_repr(*number),
        Value::Str(text) => str_repr(text),
        Value::Bytes(bytes) => bytes_repr(bytes),
        Value::Date(_) => str_of(value),
        Value::List(items) => format!("[{}]", reprs(items)),
        Value::Tuple(items) if items.len() == 1 => format!("({},)", repr(&items[0])),
        Value::Tuple(items) => format!("({})", reprs(items)),
        Value::Set(items) if items.is_empty() => "set()".to_owned(),
        Value::Set(items) => format!("{{{}}}", reprs(items)),
        Value::Map(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| format!("{}: {}", repr(key), repr(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn reprs(items: &[Value]) -> String {
    items.iter().map(repr).collect::<Vec<_>>().join(", ")
}

/// The shortest text that reads back as the number: `1.0`, `1e-05`, `1e+16`, `inf`, `nan`.
///
/// Rust's debug form changes to exponents at the same magnitudes as Python. The exponent is spelled differently, and
/// where two texts of the same length are equally near, Python takes the even digit, as Rust does for a given precision.
pub(crate) fn float_repr(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let shortest = format!("{number:?}");
    let decimals = |text: &str| text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    match shortest.split_once('e') {
        None => {
            let even = format!("{number:.*}", decimals(&shortest));
            if even.parse() == Ok(number) { even } else { shortest }
        }
        Some((mantissa, _)) => {
            let even = format!("{number:.*e}", decimals(mantissa));
            let text = if even.parse() == Ok(number) { even } else { shortest };
            let (mantissa, exponent) = text.split_once('e').expect("the form with an exponent");
            match exponent.strip_prefix('-') {
                Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
                None => format!("{mantissa}e+{exponent:0>2}"),
            }
        }
    }
}

fn quote_of(has: impl Fn(char) -> bool) -> char {
    if has('\'') && !has('"') { '"' } else { '\'' }
}

fn str_repr(text: &str) -> String {
    let quote = quote_of(|c| text.contains(c));
    let mut repr = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            c if c == quote || c == '\\' => repr.extend(['\\', c]),
            c if is_printable(c) => repr.push(c),
            c => push_code(&mut repr, u32::from(c)),
        }
    }
    repr.push(quote);
    repr
}

/// Returns whether Python prints a character as it is. Rust knows the same categories, from its own Unicode version.
fn is_printable(c: char) -> bool {
    // Behind another character, where combining marks are not escaped.
    matches!(c, '\'' | '"') || format!("a{c}").escape_debug().nth(1) == Some(c)
}

fn push_code(repr: &mut String, code: u32) {
    let written = match code {
        ..0x100 => write!(repr, "\\x{code:02x}"),
        0x100..0x1_0000 => write!(repr, "\\u{code:04x}"),
        _ => write!(repr, "\\U{code:08x}"),
    };
    written.expect("writing to a string does not fail");
}

fn bytes_repr(bytes: &[u8]) -> String {
    let quote = quote_of(|c| bytes.iter().any(|byte| char::from(*byte) == c));
    let mut repr = format!("b{quote}");
    for byte in bytes {
        match char::from(*byte) {
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            c if c == quote || c == '\\' => repr.extend(['\\', c]),
            c @ ' '..='~' => repr.push(c),
            c => push_code(&mut repr, u32::from(c)),
        }
    }
    repr.push(quote);
    repr
}

/// Quotes a word for a POSIX shell, as `shlex.quote`: everything but ASCII letters, digits and `@%+=:,./-_` makes quotes
/// necessary.
pub(crate) fn quote(text: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// Returns whether a name matches a shell pattern, as `fnmatch.fnmatchcase`: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.
pub(crate) fn fnmatch(name: &str, pattern: &str) -> bool {
    let pattern = parse_pattern(pattern);
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut next) = (0, 0);
    // Behind the last star: where the pattern goes on, and how much of the name the star has taken.
    let mut star = None;
    while at < name.len() {
        match pattern.get(next) {
            Some(Part::Star) => {
                next += 1;
                star = Some((next, at));
            }
            Some(part) if part.matches(name[at]) => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (next, at) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|part| *part == Part::Star)
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Star,
    Any,
    Char(char),
    /// Ranges, ends included.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Part {
    fn matches(&self, c: char) -> bool {
        match self {
            Part::Star => false,
            Part::Any => true,
            Part::Char(wanted) => *wanted == c,
            Part::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

fn parse_pattern(pattern: &str) -> Vec<Part> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut parts = vec![];
    let mut rest = &pattern[..];
    while let [first, tail @ ..] = rest {
        rest = tail;
        parts.push(match first {
            '*' => Part::Star,
            '?' => Part::Any,
            '[' => match class_length(tail) {
                Some(length) => {
                    rest = &tail[length + 1..];
                    class(&tail[..length])
                }
                None => Part::Char('['),
            },
            c => Part::Char(*c),
        });
    }
    parts
}

/// Returns the length of a class up to its `]`. A `]` right at the start belongs to it.
fn class_length(behind: &[char]) -> Option<usize> {
    let mut start = usize::from(behind.first() == Some(&'!'));
    start += usize::from(behind.get(start) == Some(&']'));
    behind.get(start..)?.iter().position(|c| *c == ']').map(|length| start + length)
}

fn class(content: &[char]) -> Part {
    let (negated, content) = match content {
        ['!', content @ ..] => (true, content),
        content => (false, content),
    };
    let mut ranges = vec![];
    let mut rest = content;
    // An empty range such as `z-a` matches nothing.
    while let [low, tail @ ..] = rest {
        if let ['-', high, tail @ ..] = tail {
            ranges.push((*low, *high));
            rest = tail;
        } else {
            ranges.push((*low, *low));
            rest = tail;
        }
    }
    Part::Class { negated, ranges }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_float(number: f64, expected: &str) {
        assert_eq!(float_repr(number), expected);
    }

    #[test]
    fn floats_are_written_as_python_does() {
        check_float(1.5, "1.5");
        check_float(1000.0, "1000.0");
        check_float(-0.0, "-0.0");
        check_float(1e-4, "0.0001");
        check_float(1e-5, "1e-05");
        check_float(1.25e-5, "1.25e-05");
        check_float(1e15, "1000000000000000.0");
        check_float(1e16, "1e+16");
        check_float(-1.5e300, "-1.5e+300");
        check_float(f64::NEG_INFINITY, "-inf");
        check_float(f64::NAN, "nan");
        check_float(5e-324, "5e-324");
        check_float(811_376_019_104_808.0 + 0.25, "811376019104808.2");
        check_float(168_898_538_960_395.0 + 0.625, "168898538960395.62");
    }

    #[test]
    fn values_are_written_as_python_does() {
        #[track_caller]
        #[expect(clippy::needless_pass_by_value, reason = "the table reads better")]
        fn check(value: Value, expected: &str) {
            assert_eq!(str_of(&value), expected);
        }
        check(Value::Null, "None");
        check(Value::Bool(true), "True");
        check(Value::BigInt("-99999999999999999999".into()), "-99999999999999999999");
        check(Value::Date("2020-01-01T10:00:00".into()), "2020-01-01 10:00:00");
        check(Value::Bytes(b"a'\n\xff".into()), r#"b"a'\n\xff""#);
        check(Value::Tuple(vec![Value::Int(1)]), "(1,)");
        check(Value::Tuple(vec![Value::str("a'"), Value::str("b\"'\\")]), r#"("a'", 'b"\'\\')"#);
        check(Value::List(vec![Value::str("é\u{301}\u{a0}\u{200b}\t\u{7f}🚀")]), "['é\u{301}\\xa0\\u200b\\t\\x7f🚀']");
        let map = [(Value::str("k"), Value::Float(1.0)), (Value::Int(2), Value::Set(vec![]))];
        check(Value::Map(Box::new(map.into_iter().collect())), "{'k': 1.0, 2: set()}");
        assert_eq!(str_of(&Value::str("as it is\n")), "as it is\n");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        for safe in ["a", "A-1_b.c/d:e,f=g+h%i@j"] {
            assert_eq!(quote(safe), safe);
        }
        for (text, expected) in [("", "''"), ("a b", "'a b'"), ("it's", r#"'it'"'"'s'"#), ("é", "'é'"), ("$x", "'$x'")]
        {
            assert_eq!(quote(text), expected);
        }
    }

    #[track_caller]
    fn check_match(pattern: &str, matching: &[&str], others: &[&str]) {
        for name in matching {
            assert!(fnmatch(name, pattern), "{pattern} matches {name}");
        }
        for name in others {
            assert!(!fnmatch(name, pattern), "{pattern} does not match {name}");
        }
    }

    #[test]
    fn shell_patterns() {
        check_match("abc", &["abc"], &["ABC", "abcd", "ab", ""]);
        check_match("*", &["", "a", ".hidden", "a/b\nc"], &[]);
        check_match("a*b*c", &["abc", "aXbXbXc"], &["ab", "aXbXcX"]);
        check_match("a?c", &["abc", "aéc"], &["ac", "abbc"]);
        check_match("[ab]c", &["ac", "bc"], &["cc", "[ab]c"]);
        check_match("[!a-c]", &["d", "-", "!"], &["b", ""]);
        check_match("[]a]", &["]", "a"], &["b"]);
        check_match("[!]a]", &["b"], &["]", "a"]);
        check_match("[a-]", &["a", "-"], &["b"]);
        check_match("[z-a]", &[], &["a", "z", "-", ""]);
        check_match("[!z-a]", &["a", "z"], &[""]);
        check_match("[a", &["[a"], &["a"]);
        check_match("[^a]", &["^", "a"], &["b"]);
        check_match("train@*", &["train@1", "train@"], &["train"]);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let name = "a".repeat(10_000);
        assert!(!fnmatch(&name, &format!("{}b", "a*".repeat(30))));
    }
}
