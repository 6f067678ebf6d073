//! What DVC never writes into an entry, for entries that come from machines that ran user code.

use std::borrow::Cow;
use std::collections::HashMap;

use super::block::{self, Anchor, Event};
use super::splice::is_generated;

/// The most values that aliases may make of an entry; a few lines can stand for billions.
const MAX_VALUES: usize = 1_000_000;

/// Says why DVC cannot have written these lines of an entry: flow style, a tag other than that of bytes, an anchor that
/// somebody named, or aliases that stand for an absurd number of values.
pub(crate) fn foreign_style(lines: &str) -> Option<&'static str> {
    let text = without_rarities(lines);
    let mut counter = Counter { open: vec![Open { anchor: None, values: 0 }], ..Counter::default() };
    match block::read(&text, |event, _| counter.event(event)) {
        Err(irregular) => Some(irregular.what),
        Ok(()) if counter.open.iter().any(|open| open.values > MAX_VALUES) => Some("too many values behind aliases"),
        Ok(()) => counter.problem,
    }
}

/// Counts the values of an entry as if no alias were used.
#[derive(Default)]
struct Counter<'t> {
    open: Vec<Open<'t>>,
    /// The anchor that the next map or list has.
    anchor: Option<&'t str>,
    named: HashMap<&'t str, usize>,
    problem: Option<&'static str>,
}

struct Open<'t> {
    anchor: Option<&'t str>,
    values: usize,
}

impl<'t> Counter<'t> {
    fn event(&mut self, event: Event<'t>) {
        match event {
            Event::Open(_) => self.open.push(Open { anchor: self.anchor.take(), values: 0 }),
            Event::Close => {
                let Some(Open { anchor, values }) = self.open.pop() else { return };
                self.named.extend(anchor.map(|anchor| (anchor, values)));
                self.add(values);
            }
            Event::Key(_) | Event::Scalar(_) => self.add(1),
            Event::Empty(_) => {
                self.named.extend(self.anchor.take().map(|anchor| (anchor, 1)));
                self.add(1);
            }
            Event::Anchor(_, name) if !is_generated(name) => self.problem = Some("an anchor that somebody named"),
            Event::Anchor(Anchor::Definition, name) => self.anchor = Some(name),
            Event::Anchor(Anchor::Alias, name) => match self.named.get(name).copied() {
                Some(values) => self.add(values),
                None => self.problem = Some("an alias without its anchor"),
            },
        }
    }

    fn add(&mut self, values: usize) {
        if let Some(open) = self.open.last_mut() {
            open.values = open.values.saturating_add(values);
        }
    }
}

/// Stands in for what DVC writes and the block reader leaves to YAML: bytes, and Unicode's line breaks in quotes.
fn without_rarities(lines: &str) -> Cow<'_, str> {
    const BYTES: &str = "!!binary |\n";
    const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
    if !lines.contains(BYTES) && !lines.contains(BREAKS) {
        return Cow::Borrowed(lines);
    }
    let mut text = String::with_capacity(lines.len());
    let mut column = None;
    for line in lines.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if column.is_some_and(|column| indent > column) {
            continue;
        }
        column = line.strip_suffix(BYTES).map(|_| indent);
        text.push_str(&line.replace(BYTES, "x\n").replace(BREAKS, "x"));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, why: Option<&str>) {
        assert_eq!(foreign_style(lines), why);
    }

    #[test]
    fn what_dvc_never_writes_is_named() {
        let params = "  a:\n    cmd: x\n    params:\n      p.yaml:\n";
        check("  a:\n    cmd: x\n", None);
        check(
            &format!("{params}        k: !!binary |\n          AAEC\n        l: &id001 []\n        m: *id001\n"),
            None,
        );
        check(&format!("{params}        k: 'a\u{2028}          b'\n"), None);
        check("  a: {cmd: x}\n", Some("flow style, a block scalar or a tag"));
        check("  a:\n    cmd: !!str x\n", Some("flow style, a block scalar or a tag"));
        check(&format!("{params}        k: &mine []\n"), Some("an anchor that somebody named"));
        check(&format!("{params}        k: *id001\n"), Some("an alias without its anchor"));
    }

    #[test]
    fn a_bomb_is_counted_not_unpacked() {
        let first = "  a:\n    params:\n      p.yaml:\n        a0: &id001\n        - 1\n".to_owned();
        let bomb = (1..200).fold(first, |text, level| {
            let items = format!("        - *id{level:03}\n").repeat(9);
            format!("{text}        a{level}: &id{:03}\n{items}", level + 1)
        });
        check(&bomb, Some("too many values behind aliases"));
    }
}
