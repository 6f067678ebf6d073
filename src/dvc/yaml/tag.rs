//! The type of a node: from its tag, or from the look of a plain scalar.

use super::Version;
use super::timestamp::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Null,
    Bool,
    Int,
    Float,
    Binary,
    Timestamp,
    Omap,
    Pairs,
    Set,
    Str,
    Seq,
    Map,
    /// `<<`
    Merge,
    /// `=`
    Value,
    Unknown(Box<str>),
}

impl Tag {
    /// What `!!` stands for.
    pub(super) const PREFIX: &'static str = "tag:yaml.org,2002:";

    /// The type that an explicit, fully spelled tag names.
    pub(super) fn of(name: &str) -> Tag {
        match name.strip_prefix(Self::PREFIX) {
            Some("null") => Tag::Null,
            Some("bool") => Tag::Bool,
            Some("int") => Tag::Int,
            Some("float") => Tag::Float,
            Some("binary") => Tag::Binary,
            Some("timestamp") => Tag::Timestamp,
            Some("omap") => Tag::Omap,
            Some("pairs") => Tag::Pairs,
            Some("set") => Tag::Set,
            Some("str") => Tag::Str,
            Some("seq") => Tag::Seq,
            Some("map") => Tag::Map,
            Some("merge") => Tag::Merge,
            Some("value") => Tag::Value,
            _ => Tag::Unknown(name.into()),
        }
    }

    /// The type of a plain scalar, by the table in section 2 of the semantics.
    pub(super) fn of_plain(text: &str, version: Version) -> Tag {
        // A quoted text with the tag `!` gets here too; the patterns do not see one line break at its end.
        let text = text.strip_suffix('\n').unwrap_or(text);
        match text.as_bytes() {
            [] | b"~" | b"null" | b"Null" | b"NULL" => Tag::Null,
            b"<<" => Tag::Merge,
            b"=" => Tag::Value,
            bytes if is_bool(bytes, version) => Tag::Bool,
            [b'0'..=b'9' | b'+' | b'-' | b'.', ..] => of_number(text, version),
            _ => Tag::Str,
        }
    }
}

fn is_bool(text: &[u8], version: Version) -> bool {
    match text {
        b"true" | b"True" | b"TRUE" | b"false" | b"False" | b"FALSE" => true,
        b"y" | b"Y" | b"yes" | b"Yes" | b"YES" | b"n" | b"N" | b"no" | b"No" | b"NO" | b"on" | b"On" | b"ON"
        | b"off" | b"Off" | b"OFF" => version == Version::V1_1,
        _ => false,
    }
}

fn of_number(text: &str, version: Version) -> Tag {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let signed = unsigned.len() < text.len();
    let (is_float, is_int) = match version {
        Version::V1_2 => (is_pointed(unsigned) || is_float(unsigned), is_int(unsigned)),
        Version::V1_1 => (
            (is_pointed(unsigned) && !signed) || is_float(unsigned) || is_sexagesimal_float(unsigned),
            is_int_1_1(unsigned),
        ),
    };
    let is_infinity = matches!(unsigned, ".inf" | ".Inf" | ".INF");
    let is_nan = matches!(text, ".nan" | ".NaN" | ".NAN");
    if is_float || is_infinity || is_nan {
        Tag::Float
    } else if is_int {
        Tag::Int
    } else if Timestamp::parse(text).is_some_and(|timestamp| timestamp.time.is_some() || text.len() == 10) {
        Tag::Timestamp
    } else {
        Tag::Str
    }
}

/// Removes the leading characters that `wanted` knows; returns `None` if there is none.
fn strip_some(text: &str, wanted: fn(char) -> bool) -> Option<&str> {
    let rest = text.trim_start_matches(wanted);
    (rest.len() < text.len()).then_some(rest)
}

fn is_digit_or_underscore(c: char) -> bool {
    c.is_ascii_digit() || c == '_'
}

/// Digits and underscores that begin with a digit.
fn strip_number(text: &str) -> Option<&str> {
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.trim_start_matches(is_digit_or_underscore))
}

/// `1.5`, `1.`, `1.5e3`, `1e3`
fn is_float(text: &str) -> bool {
    let Some(rest) = strip_number(text) else { return false };
    match rest.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(is_digit_or_underscore);
            rest.is_empty() || is_exponent(rest)
        }
        None => is_exponent(rest),
    }
}

/// `e3`, `E-3`
fn is_exponent(text: &str) -> bool {
    text.strip_prefix(['e', 'E']).is_some_and(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// `.5`, `.5e+3`; here the exponent needs its sign.
fn is_pointed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('.').and_then(|text| strip_some(text, is_digit_or_underscore)) else {
        return false;
    };
    rest.is_empty() || (is_exponent(rest) && rest[1..].starts_with(['+', '-']))
}

fn is_int(text: &str) -> bool {
    let all = |text: &str, wanted: fn(char) -> bool| !text.is_empty() && text.chars().all(wanted);
    all(text, is_digit_or_underscore)
        || is_binary_or_hex(text)
        || text.strip_prefix("0o").is_some_and(|digits| all(digits, |c| matches!(c, '0'..='7' | '_')))
}

fn is_binary_or_hex(text: &str) -> bool {
    let all = |text: &str, wanted: fn(char) -> bool| !text.is_empty() && text.chars().all(wanted);
    text.strip_prefix("0b").is_some_and(|digits| all(digits, |c| matches!(c, '0' | '1' | '_')))
        || text.strip_prefix("0x").is_some_and(|digits| all(digits, |c| c.is_ascii_hexdigit() || c == '_'))
}

fn is_int_1_1(text: &str) -> bool {
    let is_octal = !text.is_empty() && text.chars().all(|c| matches!(c, '0'..='7' | '_'));
    let rest =
        text.strip_prefix(|c| matches!(c, '1'..='9')).map(|rest| rest.trim_start_matches(is_digit_or_underscore));
    is_octal || is_binary_or_hex(text) || rest.is_some_and(|rest| strip_sexagesimal(rest).is_empty())
}

/// `1:30.5`
fn is_sexagesimal_float(text: &str) -> bool {
    strip_number(text).is_some_and(|rest| {
        let fraction = strip_sexagesimal(rest);
        fraction.len() < rest.len()
            && fraction.strip_prefix('.').is_some_and(|digits| digits.chars().all(is_digit_or_underscore))
    })
}

/// Removes leading `:59` and `:9`.
fn strip_sexagesimal(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix(':') {
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        match (digits, rest.as_bytes().first()) {
            (2, Some(b'0'..=b'5')) => text = &rest[2..],
            (1.., _) => text = &rest[1..],
            (0, _) => break,
        }
    }
    text
}
