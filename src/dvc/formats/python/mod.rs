//! Params in a Python file, which is read but not run.
//!
//! What counts (`dvc/utils/serialize/_py.py: _ast_tree_to_dict`): assignments of a literal to one name, with or
//! without annotation, directly in the module or in a class, which becomes a nested map; and assignments to
//! `self.NAME` in `__init__`, which land in the map around it. Everything else, such as a value that is not a literal,
//! or anything inside `if`, is skipped.
//!
//! Python parses the whole file first and refuses it for any syntax error. Here only what the tokens and the blocks
//! show is refused: brackets, quotes, indentation.

mod literal;
mod tokens;

use self::literal::literal;
use self::tokens::{Token, TokenKind, tokenize};
use super::SyntaxError;
use crate::dvc::value::{Map, Value};

/// Statements that own a block whose content does not count.
const SKIPPED_BLOCKS: [&str; 11] =
    ["if", "elif", "else", "for", "while", "try", "except", "finally", "with", "def", "async"];

pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let tokens = tokenize(text)?;
    let mut module = Module { tokens: &tokens, at: 0 };
    let mut map = Map::new();
    module.block(Scope::Names, &mut map)?;
    Ok(Value::Map(Box::new(map)))
}

/// Which assignments of a block count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those to names and to `self.NAME`.
    Names,
    /// In `__init__`: only those to `self.NAME`.
    SelfOnly,
}

struct Module<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
}

impl<'t> Module<'t> {
    fn peek(&self) -> &'t TokenKind<'t> {
        &self.tokens[self.at].kind
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError::new(self.tokens[self.at].offset, message)
    }

    fn take(&mut self, kind: &TokenKind<'_>) -> bool {
        let found = self.peek() == kind;
        self.at += usize::from(found);
        found
    }

    /// Reads statements up to the end of the block, which stays.
    fn block(&mut self, scope: Scope, map: &mut Map) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                TokenKind::Dedent | TokenKind::End => return Ok(()),
                TokenKind::Indent => return Err(self.error("unexpected indentation")),
                TokenKind::Name("class") => self.class(map)?,
                TokenKind::Name("def") if self.name_behind() == Some("__init__") => {
                    self.header()?;
                    self.suite(Some((Scope::SelfOnly, map)))?;
                }
                TokenKind::Name(name) if SKIPPED_BLOCKS.contains(name) => {
                    self.header()?;
                    self.suite(None)?;
                }
                _ => self.line(scope, map)?,
            }
        }
    }

    fn name_behind(&self) -> Option<&'t str> {
        match self.tokens.get(self.at + 1)?.kind {
            TokenKind::Name(name) => Some(name),
            _ => None,
        }
    }

    fn class(&mut self, map: &mut Map) -> Result<(), SyntaxError> {
        let name = self.name_behind().ok_or_else(|| self.error("expected the name of a class"))?;
        self.header()?;
        let mut members = Map::new();
        self.suite(Some((Scope::Names, &mut members)))?;
        map.insert(Value::str(name), Value::Map(Box::new(members)));
        Ok(())
    }

    /// Moves past the `:` of a compound statement.
    fn header(&mut self) -> Result<(), SyntaxError> {
        let mut depth = Depth::default();
        loop {
            match self.peek() {
                TokenKind::Operator(":") if depth.is_zero() => break,
                TokenKind::Newline | TokenKind::End => return Err(self.error("expected `:`")),
                kind => depth.follow(kind),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    /// Reads, or skips, what a compound statement owns: the rest of its line or an indented block.
    fn suite(&mut self, into: Option<(Scope, &mut Map)>) -> Result<(), SyntaxError> {
        if !self.take(&TokenKind::Newline) {
            if let Some((scope, map)) = into {
                return self.line(scope, map);
            }
            self.at += self.line_length();
            self.take(&TokenKind::Newline);
            return Ok(());
        }
        if !self.take(&TokenKind::Indent) {
            return Err(self.error("expected an indented block"));
        }
        match into {
            Some((scope, map)) => self.block(scope, map)?,
            None => self.skip_block(),
        }
        self.take(&TokenKind::Dedent);
        Ok(())
    }

    /// Moves up to the end of the block.
    fn skip_block(&mut self) {
        let mut depth = 0;
        loop {
            match self.peek() {
                TokenKind::End => return,
                TokenKind::Dedent if depth == 0 => return,
                TokenKind::Dedent => depth -= 1,
                TokenKind::Indent => depth += 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn line_length(&self) -> usize {
        let rest = self.tokens[self.at..].iter();
        rest.take_while(|token| !matches!(token.kind, TokenKind::Newline | TokenKind::End)).count()
    }

    /// Reads the simple statements of a line.
    fn line(&mut self, scope: Scope, map: &mut Map) -> Result<(), SyntaxError> {
        let length = self.line_length();
        let line = &self.tokens[self.at..][..length];
        for statement in split(line, ";") {
            if let Some((name, value)) = assignment(statement, scope)? {
                map.insert(Value::str(name), value);
            }
        }
        self.at += length;
        self.take(&TokenKind::Newline);
        // `match` and `case` look like names.
        let opens_block = line.last().is_some_and(|token| token.kind == TokenKind::Operator(":"));
        if opens_block && self.take(&TokenKind::Indent) {
            self.skip_block();
            self.take(&TokenKind::Dedent);
        }
        Ok(())
    }
}

/// How many brackets are open.
#[derive(Default)]
struct Depth(usize);

impl Depth {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }

    fn follow(&mut self, kind: &TokenKind<'_>) {
        match kind {
            TokenKind::Operator("(" | "[" | "{") => self.0 += 1,
            TokenKind::Operator(")" | "]" | "}") => self.0 = self.0.saturating_sub(1),
            _ => {}
        }
    }
}

/// Splits tokens at an operator outside of brackets.
fn split<'t>(tokens: &'t [Token<'t>], operator: &str) -> Vec<&'t [Token<'t>]> {
    let mut depth = Depth::default();
    let parts = tokens.split(|token| {
        depth.follow(&token.kind);
        depth.is_zero() && token.kind == TokenKind::Operator(operator)
    });
    parts.collect()
}

/// Returns what a statement assigns, if it counts.
fn assignment<'t>(statement: &'t [Token<'t>], scope: Scope) -> Result<Option<(&'t str, Value)>, SyntaxError> {
    let [target, value] = split(statement, "=")[..] else { return Ok(None) };
    if let (Some(last), true) = (target.last(), value.is_empty()) {
        return Err(SyntaxError::new(last.offset, "expected a value behind `=`"));
    }
    let target = split(target, ":")[0];
    let kinds: Vec<_> = target.iter().map(|token| &token.kind).collect();
    let Some(name) = target_name(&kinds, scope) else { return Ok(None) };
    Ok(literal(value)?.map(|value| (name, value)))
}

/// Returns the name that an assignment to this target defines.
fn target_name<'t>(target: &[&TokenKind<'t>], scope: Scope) -> Option<&'t str> {
    match (target, scope) {
        ([TokenKind::Operator("("), target @ .., TokenKind::Operator(")")], _) => target_name(target, scope),
        ([TokenKind::Name(name)], Scope::Names)
        | ([TokenKind::Name("self"), TokenKind::Operator("."), TokenKind::Name(name)], _) => Some(name),
        _ => None,
    }
}
