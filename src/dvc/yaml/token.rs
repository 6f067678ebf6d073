//! The tokens that the scanner hands to the parser.

use std::borrow::Cow;

use super::reader::Mark;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind<'a> {
    StreamEnd,
    Directive(Directive),
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowMappingStart,
    FlowSequenceEnd,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(&'a str),
    Anchor(&'a str),
    Tag(TagName<'a>),
    Scalar { text: Cow<'a, str>, plain: bool },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Directive {
    Yaml { major: u32, minor: u32 },
    Tag { handle: String, prefix: String },
    Unknown,
}

/// A tag as written: `!handle!suffix`; verbatim ones (`!<…>`) and a lone `!` have no handle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TagName<'a> {
    pub handle: Option<&'a str>,
    pub suffix: String,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: TokenKind<'a>,
    pub start: Mark,
    pub end: Mark,
}

impl TokenKind<'_> {
    /// How a message calls the token.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            TokenKind::StreamEnd => "the end of the file",
            TokenKind::Directive(_) => "a directive",
            TokenKind::DocumentStart => "`---`",
            TokenKind::DocumentEnd => "`...`",
            TokenKind::BlockSequenceStart => "a list",
            TokenKind::BlockMappingStart => "a map",
            TokenKind::BlockEnd => "the end of the block",
            TokenKind::FlowSequenceStart => "`[`",
            TokenKind::FlowMappingStart => "`{`",
            TokenKind::FlowSequenceEnd => "`]`",
            TokenKind::FlowMappingEnd => "`}`",
            TokenKind::BlockEntry => "`-`",
            TokenKind::FlowEntry => "`,`",
            TokenKind::Key => "a key",
            TokenKind::Value => "`:`",
            TokenKind::Alias(_) => "an alias",
            TokenKind::Anchor(_) => "an anchor",
            TokenKind::Tag(_) => "a tag",
            TokenKind::Scalar { .. } => "a scalar",
        }
    }
}
