//! Lines that DVC adds to `.gitignore` files, put together from several workers.
//!
//! DVC appends `/NAME` to the `.gitignore` beside an out. The order of these lines is that in which stages ran, and it
//! matters: a directory that is a dep is hashed with the `.gitignore` in it.

use std::collections::HashSet;

/// What DVC writes behind a backslash: `escape` of pathspec's patterns, 1.1. Before pathspec 1 the backslash was not among
/// them.
const ESCAPED: [char; 7] = ['\\', '[', ']', '!', '*', '#', '?'];

/// Adds lines that a text does not have yet, in the order of their places.
///
/// Where some of the lines stand there already, from an earlier collection of the same run, all of them are put at the
/// end in their order; a text that has all of them in their order stays as it is.
pub(crate) fn unite<'l, P: Ord>(text: &'l str, mut lines: Vec<(P, &'l str)>) -> String {
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut known: HashSet<&str> = text.lines().collect();
    let own: HashSet<&str> = lines.iter().map(|(_, line)| *line).collect();
    let mut met = HashSet::new();
    let wanted = lines.iter().map(|(_, line)| *line).filter(|line| met.insert(*line));
    if text.lines().filter(|line| own.contains(line)).eq(wanted) {
        return text.to_owned();
    }
    let kept: String;
    let text = if known.is_disjoint(&own) {
        text
    } else {
        kept = text.split_inclusive('\n').filter(|line| !own.contains(line.trim_end_matches(['\n', '\r']))).collect();
        known = known.difference(&own).copied().collect();
        &kept
    };
    let mut united = text.to_owned();
    for (_, line) in lines {
        if !known.insert(line) {
            continue;
        }
        if !united.is_empty() && !united.ends_with('\n') {
            united.push('\n');
        }
        united.push_str(line);
        united.push('\n');
    }
    united
}

/// The out that a line of the `.gitignore` at `path` names.
pub(crate) fn out_of(path: &str, line: &str) -> String {
    let mut out = path.strip_suffix(".gitignore").unwrap_or_default().to_owned();
    let mut rest = line.strip_prefix('/').unwrap_or(line).chars().peekable();
    while let Some(character) = rest.next() {
        match rest.peek() {
            Some(next) if character == '\\' && ESCAPED.contains(next) => {}
            _ => out.push(character),
        }
    }
    out
}

/// The `.gitignore` that DVC writes an out to, and the line for it.
pub(crate) fn line_of(out: &str) -> (String, String) {
    let (directory, name) = match out.rsplit_once('/') {
        Some((directory, name)) => (format!("{directory}/"), name),
        None => (String::new(), out),
    };
    let mut line = "/".to_owned();
    for character in name.chars() {
        if ESCAPED.contains(&character) {
            line.push('\\');
        }
        line.push(character);
    }
    (format!("{directory}.gitignore"), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_the_order_of_their_stages_and_once() {
        assert_eq!(unite("/old", vec![(2, "/b"), (1, "/a"), (3, "/a")]), "/old\n/a\n/b\n");
        assert_eq!(unite("", Vec::<(u8, &str)>::new()), "");
        assert_eq!(unite("/a\n/b", vec![(0, "/b"), (0, "/c")]), "/a\n/b\n/c\n");
        assert_eq!(unite("/b\n/a", vec![(0, "/b"), (1, "/a")]), "/b\n/a");
        assert_eq!(unite("/b\nx\n/a", vec![(0, "/a"), (1, "/b")]), "x\n/a\n/b\n");
        assert_eq!(unite("x\n/a\n/c\n", vec![(2, "/c"), (0, "/a"), (1, "/b")]), "x\n/a\n/b\n/c\n");
        assert_eq!(out_of("data/.gitignore", "/x.txt"), "data/x.txt");
        assert_eq!(out_of(".gitignore", "/x.txt"), "x.txt");
        assert_eq!(line_of("d/[x] a.txt"), ("d/.gitignore".to_owned(), r"/\[x\] a.txt".to_owned()));
        assert_eq!(line_of("x"), (".gitignore".to_owned(), "/x".to_owned()));
        assert_eq!(out_of("d/.gitignore", r"/\[x\] a\*b\#\!c\\d.txt"), r"d/[x] a*b#!c\d.txt");
        assert_eq!(out_of(".gitignore", r"/c\d.txt"), r"c\d.txt");
        assert_eq!(line_of(r"c\d\.txt").1, r"/c\\d\\.txt");
    }
}
