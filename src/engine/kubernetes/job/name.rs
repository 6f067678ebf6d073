//! Names and label values within Kubernetes' limits, the same for the same run.

use crate::engine::remote::classes::digest;

/// The longest DNS label, which a pod's host name `JOB-INDEX` must be.
const DNS_LABEL_MAX: usize = 63;
/// The longest value of a label.
const LABEL_VALUE_MAX: usize = 63;
/// Hex digits that keep shortened names apart.
const DIGEST_LEN: usize = 8;

/// Returns a Job's name that leaves room for `-INDEX`.
///
/// Anything that no DNS label may hold becomes `-`; a name that is too long, or that was changed so that another
/// could become equal to it, ends in a digest of the whole.
pub(crate) fn job_name(parts: &[&str], completions: u32) -> String {
    let digits = completions.saturating_sub(1).to_string().len();
    fit(&parts.join("-"), DNS_LABEL_MAX - 1 - digits)
}

/// Returns the name of an object that pods do not inherit.
pub(crate) fn object_name(parts: &[&str]) -> String {
    fit(&parts.join("-"), DNS_LABEL_MAX)
}

fn fit(wanted: &str, max: usize) -> String {
    let plain: String = wanted
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { c.to_ascii_lowercase() })
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let trimmed = plain.trim_matches('-');
    if trimmed == wanted && (1..=max).contains(&wanted.len()) {
        return wanted.to_owned();
    }
    let kept: String = trimmed.chars().take(max - DIGEST_LEN - 1).collect();
    let digest = short_digest(wanted);
    match kept.trim_end_matches('-') {
        // A DNS label may begin with a digit, but not be empty.
        "" => digest,
        kept => format!("{kept}-{digest}"),
    }
}

/// Returns a label value that stands for `wanted`: itself where it may be one.
pub(crate) fn label_value(wanted: &str) -> String {
    if is_label_value(wanted) {
        return wanted.to_owned();
    }
    let plain: String = wanted
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(LABEL_VALUE_MAX - DIGEST_LEN - 1)
        .collect();
    let edge = |c: char| !c.is_ascii_alphanumeric();
    format!("{}-{}", plain.trim_matches(edge), short_digest(wanted)).trim_start_matches('-').to_owned()
}

/// Whether a label may have this value: at most 63 of `[A-Za-z0-9._-]`, beginning and ending alphanumeric, or empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= LABEL_VALUE_MAX && is_name_part(text))
}

/// Whether a label or annotation may have this key: `[PREFIX/]NAME`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let fine = !name.is_empty() && name.len() <= LABEL_VALUE_MAX && is_name_part(name);
    fine && prefix.is_none_or(|prefix| prefix.len() <= 253 && is_dns_subdomain(prefix))
}

fn is_name_part(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// Whether a pod's host name may be this.
pub(crate) fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= DNS_LABEL_MAX
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether most objects may be named so: DNS labels joined by dots, at most 253 characters.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Returns the first hex digits of a text's SHA-256.
fn short_digest(text: &str) -> String {
    digest(text).chars().take(DIGEST_LEN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_fits_stays_as_it_is() {
        assert_eq!(job_name(&["fanout", "20261122-184000", "p0"], 10), "fanout-20261122-184000-p0");
        assert_eq!(label_value("a.b_c"), "a.b_c");
    }

    #[test]
    fn names_leave_room_for_the_index() {
        let long = "a".repeat(80);
        assert_eq!(job_name(&[&long], 10).len(), 61);
        assert_eq!(job_name(&[&long], 11).len(), 60);
        assert_eq!(job_name(&[&long], 100_000).len(), 57);
        assert_eq!(job_name(&["a".repeat(61).as_str()], 10), "a".repeat(61));
    }

    #[test]
    fn names_that_would_become_equal_stay_apart() {
        let names = ["Run", "run", "run_", "r.un", "r-un", "ü", "-"].map(|name| job_name(&[name], 1));
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn keys_of_labels_may_have_a_prefix() {
        for (key, fine) in [
            ("a", true),
            ("example.com/a_b", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("-a", false),
            ("A.com/a", false),
        ] {
            assert_eq!(is_label_key(key), fine, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_the_server_takes(text in ".{0,100}", completions in 1u32..100_000) {
            let name = job_name(&[&text], completions);
            let host = format!("{name}-{}", completions - 1);
            prop_assert!(is_dns_label(&host), "{}", host);
            let value = label_value(&text);
            prop_assert!(is_label_value(&value), "{}", value);
        }
    }
}
