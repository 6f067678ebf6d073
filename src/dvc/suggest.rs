//! Near misses: what the user may have meant.

/// The most edits between a name and what was probably meant.
const MAX_EDITS: usize = 3;

/// Returns the candidates that look most like `name`, best first, three at most.
pub(crate) fn misses<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = MAX_EDITS.min(name.chars().count().div_ceil(3));
    let mut close: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit * 4)
        .filter_map(|candidate| {
            let edits = edits(&name.to_lowercase(), &candidate.to_lowercase());
            (edits <= limit && candidate != name).then_some((edits, candidate))
        })
        .collect();
    close.sort_by_key(|(edits, _)| *edits);
    close.dedup();
    close.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// Renders near misses as a hint: "did you mean `a` or `b`?".
pub(crate) fn hint(misses: &[&str]) -> Option<String> {
    let quoted: Vec<String> = misses.iter().map(|miss| format!("`{miss}`")).collect();
    match quoted.as_slice() {
        [] => None,
        [one] => Some(format!("did you mean {one}?")),
        [most @ .., last] => Some(format!("did you mean {} or {last}?", most.join(", "))),
    }
}

/// Counts the insertions, deletions, replacements and swaps of neighbours that lead from one text to the other.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: [Vec<usize>; 3] = [vec![], vec![], (0..=b.len()).collect()];
    for (i, &from) in a.iter().enumerate() {
        rows.rotate_left(1);
        rows[2] = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = rows[1][j] + usize::from(from != to);
            let mut best = replaced.min(rows[1][j + 1] + 1).min(rows[2][j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(rows[0][j - 1] + 1);
            }
            rows[2].push(best);
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_come_best_first() {
        assert_eq!(misses("trian", ["train", "test", "trains", "drain"]), ["train", "trains", "drain"]);
        assert_eq!(misses("x", ["yz", "completely"]), Vec::<&str>::new());
        assert_eq!(misses("Train", ["train"]), ["train"]);
    }

    #[test]
    fn a_hint_lists_them() {
        assert_eq!(hint(&[]), None);
        assert_eq!(hint(&["a"]).as_deref(), Some("did you mean `a`?"));
        assert_eq!(hint(&["a", "b", "c"]).as_deref(), Some("did you mean `a`, `b` or `c`?"));
    }
}
