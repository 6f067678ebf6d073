//! Literals, as far as Python's `ast.literal_eval` and [`Value`] both know them (no complex numbers, no `...`).

use super::tokens::{StringValue, Token, TokenKind};
use crate::dvc::formats::SyntaxError;
use crate::dvc::value::{Map, Value, integer};

/// Why an expression has no value here.
enum Stop {
    NotLiteral,
    Syntax(SyntaxError),
}

/// Returns the value of an expression, `None` if it is no literal.
///
/// A literal that Python cannot evaluate, because a collection is a key, is an error: DVC crashes on it.
pub(super) fn literal(tokens: &[Token<'_>]) -> Result<Option<Value>, SyntaxError> {
    let mut parser = Parser { tokens, at: 0, unhashable: None };
    match parser.expression_list() {
        Err(Stop::Syntax(error)) => Err(error),
        Ok(value) if parser.at == tokens.len() => match parser.unhashable {
            Some(offset) => Err(SyntaxError::new(offset, "a collection cannot be a key or in a set")),
            None => Ok(Some(value)),
        },
        Ok(_) | Err(Stop::NotLiteral) => Ok(None),
    }
}

struct Parser<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
    /// Where a collection stands that would have to be hashed.
    unhashable: Option<usize>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&TokenKind<'_>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.offset)
    }

    fn take(&mut self, operator: &str) -> bool {
        let found = self.peek() == Some(&TokenKind::Operator(operator));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, operator: &str) -> Result<(), Stop> {
        if self.take(operator) { Ok(()) } else { Err(Stop::NotLiteral) }
    }

    /// Reads one value, or a tuple without parentheses.
    fn expression_list(&mut self) -> Result<Value, Stop> {
        let first = self.expression()?;
        if !self.take(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.at < self.tokens.len() {
            items.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        Ok(Value::Tuple(items))
    }

    fn expression(&mut self) -> Result<Value, Stop> {
        if self.take("(") {
            return self.parentheses();
        }
        if self.take("[") {
            return Ok(Value::List(self.items("]")?));
        }
        if self.take("{") {
            return self.braces();
        }
        if self.take("-") {
            return self.signed(true);
        }
        if self.take("+") {
            return self.signed(false);
        }
        match self.peek() {
            Some(TokenKind::Name("set")) => {
                self.at += 1;
                self.expect("(")?;
                self.expect(")")?;
                Ok(Value::Set(vec![]))
            }
            Some(TokenKind::Name(name)) => {
                let value = match *name {
                    "None" => Value::Null,
                    "True" => Value::Bool(true),
                    "False" => Value::Bool(false),
                    _ => return Err(Stop::NotLiteral),
                };
                self.at += 1;
                Ok(value)
            }
            Some(TokenKind::Number(_)) => self.number(),
            Some(TokenKind::String(_)) => self.strings(),
            _ => Err(Stop::NotLiteral),
        }
    }

    fn parentheses(&mut self) -> Result<Value, Stop> {
        if self.take(")") {
            return Ok(Value::Tuple(vec![]));
        }
        let first = self.expression()?;
        if self.take(")") {
            return Ok(first);
        }
        self.expect(",")?;
        let mut items = vec![first];
        items.extend(self.items(")")?);
        Ok(Value::Tuple(items))
    }

    /// Reads the values up to a closing bracket.
    fn items(&mut self, close: &str) -> Result<Vec<Value>, Stop> {
        let mut items = vec![];
        while !self.take(close) {
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// Reads a dict or a set.
    fn braces(&mut self) -> Result<Value, Stop> {
        let mut map = Map::new();
        if self.take("}") {
            return Ok(Value::Map(Box::new(map)));
        }
        let first = self.hashable()?;
        if !self.take(":") {
            map.insert(first, Value::Null);
            while self.take(",") && self.peek() != Some(&TokenKind::Operator("}")) {
                let item = self.hashable()?;
                map.insert(item, Value::Null);
            }
            self.expect("}")?;
            return Ok(Value::Set(map.into_keys().collect()));
        }
        let value = self.expression()?;
        map.insert(first, value);
        while self.take(",") && self.peek() != Some(&TokenKind::Operator("}")) {
            let key = self.hashable()?;
            self.expect(":")?;
            let value = self.expression()?;
            map.insert(key, value);
        }
        self.expect("}")?;
        Ok(Value::Map(Box::new(map)))
    }

    fn hashable(&mut self) -> Result<Value, Stop> {
        let offset = self.offset();
        let value = self.expression()?;
        if !value.is_hashable() {
            self.unhashable.get_or_insert(offset);
        }
        Ok(value)
    }

    /// Reads the number behind a sign.
    fn signed(&mut self, negative: bool) -> Result<Value, Stop> {
        match self.expression_of_sign()? {
            Value::Int(number) if negative => match number.checked_neg() {
                Some(number) => Ok(Value::Int(number)),
                None => Err(Stop::NotLiteral),
            },
            Value::BigInt(digits) if negative => integer(true, &digits, 10).ok_or(Stop::NotLiteral),
            Value::Float(number) if negative => Ok(Value::Float(-number)),
            value => Ok(value),
        }
    }

    fn expression_of_sign(&mut self) -> Result<Value, Stop> {
        if self.take("(") {
            let value = self.expression_of_sign()?;
            self.expect(")")?;
            return Ok(value);
        }
        self.number()
    }

    fn number(&mut self) -> Result<Value, Stop> {
        let offset = self.offset();
        let Some(TokenKind::Number(text)) = self.peek() else { return Err(Stop::NotLiteral) };
        let text = text.replace('_', "").to_lowercase();
        self.at += 1;
        if text.ends_with('j') && !text.starts_with("0x") {
            return Err(Stop::NotLiteral);
        }
        let invalid = || Stop::Syntax(SyntaxError::new(offset, "not a number, or one with too many digits"));
        let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
        if let Some((digits, radix)) =
            prefixes.iter().find_map(|(prefix, radix)| text.strip_prefix(prefix).map(|digits| (digits, *radix)))
        {
            return integer(false, digits, radix).ok_or_else(invalid);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let has_leading_zero = text.starts_with('0') && text.bytes().any(|byte| byte != b'0');
            return integer(false, &text, 10).filter(|_| !has_leading_zero).ok_or_else(invalid);
        }
        text.parse().map(Value::Float).map_err(|_| invalid())
    }

    /// Reads adjacent strings, which are one.
    fn strings(&mut self) -> Result<Value, Stop> {
        let offset = self.offset();
        let mut text: Option<String> = None;
        let mut bytes: Option<Vec<u8>> = None;
        let mut formatted = false;
        while let Some(TokenKind::String(part)) = self.tokens.get(self.at).map(|token| &token.kind) {
            match part {
                StringValue::Text(part) => text.get_or_insert_default().push_str(part),
                StringValue::Bytes(part) => bytes.get_or_insert_default().extend_from_slice(part),
                StringValue::Formatted => formatted = true,
            }
            self.at += 1;
        }
        match (text, bytes) {
            _ if formatted => Err(Stop::NotLiteral),
            (Some(text), None) => Ok(Value::Str(text)),
            (None, Some(bytes)) => Ok(Value::Bytes(bytes)),
            _ => Err(Stop::Syntax(SyntaxError::new(offset, "bytes and text cannot be joined"))),
        }
    }
}
