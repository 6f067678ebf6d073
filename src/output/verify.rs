//! What `verify` has found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::output::text::count;

/// Lines of one kind that people are shown.
const SHOWN: usize = 12;

/// What was compared, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// The stages that both did, in the order of `dvc repro`.
    pub compared: Vec<String>,
    /// What was not done, and why.
    pub left_out: BTreeMap<String, String>,
    /// Stages, and files that none declares, that two `dvc repro` leave differently; with what differs.
    pub not_deterministic: BTreeMap<String, Vec<String>>,
    /// Whether that left the cache uncompared.
    pub without_cache: bool,
    /// What only this program did differently.
    pub differences: Vec<String>,
}

/// Renders it for people.
pub(crate) fn text(verified: &Verified) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes every text");
    let stages = count(verified.compared.len(), "stage");
    line(match (verified.differences.len(), verified.not_deterministic.is_empty()) {
        (0, true) => format!("{stages}: `dvc-fanout run` leaves what `dvc repro` leaves"),
        (0, false) => {
            format!("{stages}: `dvc-fanout run` leaves what `dvc repro` leaves, as far as that is the same each time")
        }
        (number, _) => format!("{stages}: {} between `dvc repro` and `dvc-fanout run`", count(number, "difference")),
    });
    list(&mut line, "compared", verified.compared.iter().cloned());
    line("  by: lock entries and their order, files with modes and links, .gitignore, cache and run cache".to_owned());
    list(&mut line, "not compared", verified.left_out.iter().map(|(stage, why)| format!("{stage}: {why}")));
    let unstable = verified.not_deterministic.iter();
    list(
        &mut line,
        "not deterministic (two `dvc repro` differ as well)",
        unstable.map(|(what, found)| {
            let example = found.first().map_or_else(String::new, |found| format!(": {found}"));
            format!("{what}{example}")
        }),
    );
    if verified.without_cache {
        line("  so the cache was not compared: objects have the names of their contents".to_owned());
    }
    list(&mut line, "different", verified.differences.iter().cloned());
    text
}

fn list(line: &mut dyn FnMut(String), title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        return;
    }
    line(format!("{title}:"));
    items.iter().take(SHOWN).for_each(|item| line(format!("  {item}")));
    if items.len() > SHOWN {
        line(format!("  … and {} more", items.len() - SHOWN));
    }
}

/// Renders it as one document.
pub(crate) fn json(verified: &Verified) -> String {
    serde_json::json!({
        "version": 1,
        "same": verified.differences.is_empty(),
        "compared": verified.compared,
        "not_compared": verified.left_out,
        "not_deterministic": verified.not_deterministic,
        "cache_compared": !verified.without_cache,
        "differences": verified.differences,
    })
    .to_string()
}
