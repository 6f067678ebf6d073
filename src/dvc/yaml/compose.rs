//! From tokens to a graph of nodes: the grammar, the anchors and the limit on depth.

use std::borrow::Cow;
use std::collections::HashMap;

use super::reader::Mark;
use super::scanner::Scanner;
use super::tag::Tag;
use super::token::{Directive, TagName, TokenKind};
use super::{MAX_DEPTH, Position, Version, YamlError};

/// Index of a node in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The nodes of a document. An alias is the [`NodeId`] of its anchor, so a node can be its own descendant.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    nodes: Vec<GraphNode<'a>>,
    pub version: Version,
}

#[derive(Debug)]
pub(super) struct GraphNode<'a> {
    pub position: Position,
    pub tag: Tag,
    pub content: Content<'a>,
    pub merge: Merge,
}

/// What has been done about the merge keys of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Nothing, or there were none.
    None,
    InProgress,
    /// They have been replaced by entries.
    Done,
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    Scalar(Cow<'a, str>),
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
}

impl<'a> Graph<'a> {
    pub(super) fn node(&self, id: NodeId) -> &GraphNode<'a> {
        &self.nodes[id.index()]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut GraphNode<'a> {
        &mut self.nodes[id.index()]
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn add(&mut self, mark: Mark, tag: Tag, content: Content<'a>) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("a node takes at least one byte of a file below 4 GiB"));
        self.nodes.push(GraphNode { position: mark.position(), tag, content, merge: Merge::None });
        id
    }

    /// Adds the null that stands where nothing is written.
    fn add_empty(&mut self, mark: Mark) -> NodeId {
        self.add(mark, Tag::Null, Content::Scalar(Cow::Borrowed("")))
    }
}

/// Parses a text of at most one document; returns `None` for the node if it holds none.
pub(super) fn compose(text: &str) -> Result<(Graph<'_>, Option<NodeId>), YamlError> {
    let mut composer = Composer {
        scanner: Scanner::new(text),
        graph: Graph { nodes: vec![], version: Version::V1_2 },
        anchors: HashMap::new(),
        tag_handles: HashMap::new(),
        depth: 0,
    };
    let root = composer.stream()?;
    composer.graph.version = composer.scanner.version;
    Ok((composer.graph, root))
}

struct Composer<'a> {
    scanner: Scanner<'a>,
    graph: Graph<'a>,
    anchors: HashMap<&'a str, NodeId>,
    /// Prefixes by handle.
    tag_handles: HashMap<String, String>,
    depth: usize,
}

/// Where a node stands, hence what it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Flow,
    Block,
    /// A block node that may be a list without indentation of its own.
    BlockOrIndentless,
}

impl<'a> Composer<'a> {
    fn stream(&mut self) -> Result<Option<NodeId>, YamlError> {
        let root = match self.scanner.peek()?.kind {
            TokenKind::StreamEnd => return Ok(None),
            TokenKind::Directive(_) | TokenKind::DocumentStart => self.explicit_document()?,
            _ => {
                self.add_default_handles();
                self.node(Context::Block)?
            }
        };
        self.document_end()?;
        Ok(Some(root))
    }

    fn explicit_document(&mut self) -> Result<NodeId, YamlError> {
        self.directives()?;
        let token = self.scanner.next()?;
        if token.kind != TokenKind::DocumentStart {
            return Err(token.start.error(format!("expected `---` but found {}", token.kind.describe())));
        }
        let next = self.scanner.peek()?;
        match next.kind {
            TokenKind::Directive(_) | TokenKind::DocumentStart | TokenKind::DocumentEnd | TokenKind::StreamEnd => {
                let start = next.start;
                Ok(self.graph.add_empty(start))
            }
            _ => self.node(Context::Block),
        }
    }

    fn directives(&mut self) -> Result<(), YamlError> {
        let mut versions = 0;
        while let TokenKind::Directive(_) = self.scanner.peek()?.kind {
            let token = self.scanner.next()?;
            match token.kind {
                TokenKind::Directive(Directive::Yaml { major, minor }) => {
                    versions += 1;
                    if versions > 1 {
                        return Err(token.start.error("the YAML version is given twice"));
                    }
                    if major != 1 || !matches!(minor, 1 | 2) {
                        return Err(token.start.error(format!("unknown YAML version {major}.{minor}")));
                    }
                }
                TokenKind::Directive(Directive::Tag { handle, prefix }) => {
                    if self.tag_handles.contains_key(&handle) {
                        return Err(token.start.error(format!("the tag handle `{handle}` is defined twice")));
                    }
                    self.tag_handles.insert(handle, prefix);
                }
                _ => {}
            }
        }
        self.add_default_handles();
        Ok(())
    }

    fn add_default_handles(&mut self) {
        for (handle, prefix) in [("!", "!"), ("!!", Tag::PREFIX)] {
            self.tag_handles.entry(handle.to_owned()).or_insert_with(|| prefix.to_owned());
        }
    }

    /// Takes what may follow the document: one `...`, in YAML 1.1 several. A second document is an error.
    fn document_end(&mut self) -> Result<(), YamlError> {
        if self.scanner.peek()?.kind == TokenKind::DocumentEnd {
            let end = self.scanner.next()?.end;
            let next = self.scanner.peek()?;
            if next.kind != TokenKind::StreamEnd && next.start.line == end.line {
                return Err(next.start.error("only a comment can follow `...`"));
            }
            while self.scanner.version == Version::V1_1 && self.scanner.peek()?.kind == TokenKind::DocumentEnd {
                self.scanner.next()?;
            }
        }
        let next = self.scanner.peek()?;
        match next.kind {
            TokenKind::StreamEnd => Ok(()),
            TokenKind::DocumentStart | TokenKind::DocumentEnd | TokenKind::Directive(_) => {
                Err(next.start.error("expected one document but found another"))
            }
            ref kind => Err(next.start.error(format!("did not expect {} here", kind.describe()))),
        }
    }

    fn node(&mut self, context: Context) -> Result<NodeId, YamlError> {
        if let TokenKind::Alias(name) = self.scanner.peek()?.kind {
            let start = self.scanner.next()?.start;
            return self
                .anchors
                .get(name)
                .copied()
                .ok_or_else(|| start.error(format!("the alias `*{name}` has no anchor above it")));
        }
        self.descend()?;
        let id = self.node_with_properties(context)?;
        self.depth -= 1;
        Ok(id)
    }

    fn descend(&mut self) -> Result<(), YamlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(YamlError::too_deep(self.scanner.peek()?.start.position()));
        }
        Ok(())
    }

    fn node_with_properties(&mut self, context: Context) -> Result<NodeId, YamlError> {
        let start = self.scanner.peek()?.start;
        let mut anchor = self.take_anchor()?;
        let tag = self.take_tag()?;
        if anchor.is_none() && tag.is_some() {
            anchor = self.take_anchor()?;
        }
        let has_properties = anchor.is_some() || tag.is_some();
        // A lone `!` leaves the type to the content, even of a quoted text.
        let non_specific = tag.as_deref() == Some("!");
        let tag = tag.filter(|_| !non_specific).map(|name| Tag::of(&name));

        let next = self.scanner.peek()?;
        let next_start = next.start;
        match next.kind {
            TokenKind::BlockEntry if context == Context::BlockOrIndentless => {
                let id = self.open(start, anchor, tag.unwrap_or(Tag::Seq), Content::Sequence(vec![]));
                self.indentless_sequence(id)?;
                Ok(id)
            }
            TokenKind::Scalar { .. } => {
                let TokenKind::Scalar { text, plain } = self.scanner.next()?.kind else {
                    unreachable!("the token was peeked at")
                };
                let tag = tag.unwrap_or_else(|| {
                    if plain || non_specific { Tag::of_plain(&text, self.scanner.version) } else { Tag::Str }
                });
                Ok(self.open(start, anchor, tag, Content::Scalar(text)))
            }
            TokenKind::FlowSequenceStart => {
                let id = self.open(start, anchor, tag.unwrap_or(Tag::Seq), Content::Sequence(vec![]));
                self.flow_sequence(id)?;
                Ok(id)
            }
            TokenKind::FlowMappingStart => {
                let id = self.open(start, anchor, tag.unwrap_or(Tag::Map), Content::Mapping(vec![]));
                self.flow_mapping(id)?;
                Ok(id)
            }
            TokenKind::BlockSequenceStart if context != Context::Flow => {
                let id = self.open(start, anchor, tag.unwrap_or(Tag::Seq), Content::Sequence(vec![]));
                self.block_sequence(id)?;
                Ok(id)
            }
            TokenKind::BlockMappingStart if context != Context::Flow => {
                let id = self.open(start, anchor, tag.unwrap_or(Tag::Map), Content::Mapping(vec![]));
                self.block_mapping(id)?;
                Ok(id)
            }
            // Properties may stand in front of nothing.
            _ if has_properties => {
                let tag = tag.unwrap_or(Tag::Null);
                Ok(self.open(start, anchor, tag, Content::Scalar(Cow::Borrowed(""))))
            }
            ref kind => Err(next_start.error(format!("expected a value but found {}", kind.describe()))),
        }
    }

    fn take_anchor(&mut self) -> Result<Option<&'a str>, YamlError> {
        let TokenKind::Anchor(name) = self.scanner.peek()?.kind else { return Ok(None) };
        self.scanner.next()?;
        Ok(Some(name))
    }

    /// Takes a tag and spells it out.
    fn take_tag(&mut self) -> Result<Option<String>, YamlError> {
        if !matches!(self.scanner.peek()?.kind, TokenKind::Tag(_)) {
            return Ok(None);
        }
        let token = self.scanner.next()?;
        match token.kind {
            TokenKind::Tag(TagName { handle: None, suffix }) => Ok(Some(suffix)),
            TokenKind::Tag(TagName { handle: Some(handle), suffix }) => match self.tag_handles.get(handle) {
                Some(prefix) => Ok(Some(format!("{prefix}{suffix}"))),
                None => Err(token.start.error(format!("the tag handle `{handle}` is not defined"))),
            },
            _ => Ok(None),
        }
    }

    /// Adds a node and lets its anchor refer to it, already while its content is read.
    fn open(&mut self, start: Mark, anchor: Option<&'a str>, tag: Tag, content: Content<'a>) -> NodeId {
        let id = self.graph.add(start, tag, content);
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        id
    }

    fn push_item(&mut self, sequence: NodeId, item: NodeId) {
        if let Content::Sequence(items) = &mut self.graph.node_mut(sequence).content {
            items.push(item);
        }
    }

    fn push_entry(&mut self, mapping: NodeId, key: NodeId, value: NodeId) {
        if let Content::Mapping(entries) = &mut self.graph.node_mut(mapping).content {
            entries.push((key, value));
        }
    }

    /// Reads a node, or the null before one of the tokens that `is_end` knows.
    fn node_or_empty(
        &mut self,
        context: Context,
        indicator_end: Mark,
        is_end: fn(&TokenKind<'a>) -> bool,
    ) -> Result<NodeId, YamlError> {
        if is_end(&self.scanner.peek()?.kind) {
            return Ok(self.graph.add_empty(indicator_end));
        }
        self.node(context)
    }

    /// Reads the value behind a `:`, or the null where none stands.
    fn value(&mut self, context: Context, is_end: fn(&TokenKind<'a>) -> bool) -> Result<NodeId, YamlError> {
        if self.scanner.peek()?.kind == TokenKind::Value {
            let colon = self.scanner.next()?.end;
            return self.node_or_empty(context, colon, is_end);
        }
        let next = self.scanner.peek()?.start;
        Ok(self.graph.add_empty(next))
    }

    fn indentless_sequence(&mut self, id: NodeId) -> Result<(), YamlError> {
        while self.scanner.peek()?.kind == TokenKind::BlockEntry {
            let dash = self.scanner.next()?.end;
            let item = self.node_or_empty(Context::Block, dash, |kind| {
                matches!(kind, TokenKind::BlockEntry | TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd)
            })?;
            self.push_item(id, item);
        }
        Ok(())
    }

    fn block_sequence(&mut self, id: NodeId) -> Result<(), YamlError> {
        self.scanner.next()?;
        while self.scanner.peek()?.kind == TokenKind::BlockEntry {
            let dash = self.scanner.next()?.end;
            let item = self.node_or_empty(Context::Block, dash, |kind| {
                matches!(kind, TokenKind::BlockEntry | TokenKind::BlockEnd)
            })?;
            self.push_item(id, item);
        }
        self.block_end("list")
    }

    fn block_mapping(&mut self, id: NodeId) -> Result<(), YamlError> {
        fn is_end(kind: &TokenKind<'_>) -> bool {
            matches!(kind, TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd)
        }
        self.scanner.next()?;
        loop {
            let version = self.scanner.version;
            let next = self.scanner.peek()?;
            let key = match next.kind {
                TokenKind::Key => {
                    let end = self.scanner.next()?.end;
                    self.node_or_empty(Context::BlockOrIndentless, end, is_end)?
                }
                TokenKind::Value if version == Version::V1_2 => {
                    let start = next.start;
                    self.graph.add_empty(start)
                }
                _ => break,
            };
            let value = self.value(Context::BlockOrIndentless, is_end)?;
            self.push_entry(id, key, value);
        }
        self.block_end("map")
    }

    fn block_end(&mut self, collection: &str) -> Result<(), YamlError> {
        let token = self.scanner.next()?;
        if token.kind == TokenKind::BlockEnd {
            return Ok(());
        }
        Err(token.start.error(format!("did not expect {} in this {collection}", token.kind.describe())))
    }

    fn flow_sequence(&mut self, id: NodeId) -> Result<(), YamlError> {
        self.scanner.next()?;
        let mut first = true;
        while self.flow_entry(first, &TokenKind::FlowSequenceEnd, "]")? {
            first = false;
            let item =
                if self.scanner.peek()?.kind == TokenKind::Key { self.flow_pair()? } else { self.node(Context::Flow)? };
            self.push_item(id, item);
        }
        Ok(())
    }

    /// Reads a `key: value` that stands for a map of one entry in a flow sequence.
    fn flow_pair(&mut self) -> Result<NodeId, YamlError> {
        fn is_end(kind: &TokenKind<'_>) -> bool {
            matches!(kind, TokenKind::FlowEntry | TokenKind::FlowSequenceEnd)
        }
        self.descend()?;
        let token = self.scanner.next()?;
        let id = self.open(token.start, None, Tag::Map, Content::Mapping(vec![]));
        let key =
            self.node_or_empty(Context::Flow, token.end, |kind| is_end(kind) || matches!(kind, TokenKind::Value))?;
        let value = self.value(Context::Flow, is_end)?;
        self.push_entry(id, key, value);
        self.depth -= 1;
        Ok(id)
    }

    fn flow_mapping(&mut self, id: NodeId) -> Result<(), YamlError> {
        fn is_end(kind: &TokenKind<'_>) -> bool {
            matches!(kind, TokenKind::FlowEntry | TokenKind::FlowMappingEnd)
        }
        self.scanner.next()?;
        let mut first = true;
        while self.flow_entry(first, &TokenKind::FlowMappingEnd, "}")? {
            first = false;
            let version = self.scanner.version;
            let next = self.scanner.peek()?;
            let (key, value) = match next.kind {
                TokenKind::Key => {
                    let end = self.scanner.next()?.end;
                    let key = self
                        .node_or_empty(Context::Flow, end, |kind| is_end(kind) || matches!(kind, TokenKind::Value))?;
                    (key, self.value(Context::Flow, is_end)?)
                }
                TokenKind::Value if version == Version::V1_2 => {
                    let end = next.end;
                    let key = self.graph.add_empty(end);
                    (key, self.value(Context::Flow, is_end)?)
                }
                _ => {
                    let key = self.node(Context::Flow)?;
                    let next = self.scanner.peek()?.start;
                    (key, self.graph.add_empty(next))
                }
            };
            self.push_entry(id, key, value);
        }
        Ok(())
    }

    /// Takes the comma before an entry, or the closing bracket; returns whether an entry follows.
    fn flow_entry(&mut self, first: bool, close: &TokenKind<'a>, bracket: &str) -> Result<bool, YamlError> {
        if !first && self.scanner.peek()?.kind != *close {
            let token = self.scanner.next()?;
            if token.kind != TokenKind::FlowEntry {
                let found = token.kind.describe();
                return Err(token.start.error(format!("expected `,` or `{bracket}` but found {found}")));
            }
        }
        if self.scanner.peek()?.kind == *close {
            self.scanner.next()?;
            return Ok(false);
        }
        Ok(true)
    }
}
