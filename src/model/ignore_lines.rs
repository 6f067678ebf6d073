//! Lines that DVC adds to `.gitignore` files, put together from several workers.
//!
//! DVC appends `/NAME` to the `.gitignore` beside an out. The order of these lines is that in which stages ran, and it
//! matters: a directory that is a dep is hashed with the `.gitignore` in it.

use std::collections::HashSet;

/// Adds lines that a text does not have yet, in the order of their places.
///
/// Where some of the lines stand there already, from an earlier collection of the same run, all of them are put at the
/// end in their order; a text that has all of them stays as it is.
pub(crate) fn unite<'l, P: Ord>(text: &'l str, mut lines: Vec<(P, &'l str)>) -> String {
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut known: HashSet<&str> = text.lines().collect();
    if lines.iter().all(|(_, line)| known.contains(line)) {
        return text.to_owned();
    }
    let own: HashSet<&str> = lines.iter().map(|(_, line)| *line).collect();
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
    let directory = path.strip_suffix(".gitignore").unwrap_or_default();
    format!("{directory}{}", line.strip_prefix('/').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_the_order_of_their_stages_and_once() {
        assert_eq!(unite("/old", vec![(2, "/b"), (1, "/a"), (3, "/a")]), "/old\n/a\n/b\n");
        assert_eq!(unite("", Vec::<(u8, &str)>::new()), "");
        assert_eq!(unite("/a\n/b", vec![(0, "/b"), (0, "/c")]), "/a\n/b\n/c\n");
        assert_eq!(unite("/b\n/a", vec![(0, "/a"), (1, "/b")]), "/b\n/a");
        assert_eq!(unite("x\n/a\n/c\n", vec![(2, "/c"), (0, "/a"), (1, "/b")]), "x\n/a\n/b\n/c\n");
        assert_eq!(out_of("data/.gitignore", "/x.txt"), "data/x.txt");
        assert_eq!(out_of(".gitignore", "/x.txt"), "x.txt");
    }
}
