//! Lines that DVC adds to `.gitignore` files, put together from several workers.
//!
//! DVC appends `/NAME` to the `.gitignore` beside an out. The order of these lines is that in which stages ran, and it
//! matters: a directory that is a dep is hashed with the `.gitignore` in it.

/// Adds lines that a text does not have yet, in the order of their places.
pub(crate) fn unite<'l, P: Ord>(text: &str, mut lines: Vec<(P, &'l str)>) -> String {
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut known: std::collections::HashSet<&str> = text.lines().collect();
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
        assert_eq!(unite("/old", vec![(2, "/b"), (1, "/a"), (3, "/a"), (0, "/old")]), "/old\n/a\n/b\n");
        assert_eq!(unite("", Vec::<(u8, &str)>::new()), "");
        assert_eq!(unite("/a\n/b", vec![(0, "/b"), (0, "/c")]), "/a\n/b\n/c\n");
        assert_eq!(out_of("data/.gitignore", "/x.txt"), "data/x.txt");
        assert_eq!(out_of(".gitignore", "/x.txt"), "x.txt");
    }
}
