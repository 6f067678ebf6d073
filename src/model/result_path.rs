//! Which paths a result may name: results come from machines that ran user code.

/// Longer paths no file system takes.
const MAX_PATH: usize = 4096;
/// Longer names no file system takes.
const MAX_NAME: usize = 255;

/// Why a path of a result is not one inside the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsafePath {
    #[error("it is absolute")]
    Absolute,
    #[error("it is not in its shortest form: an empty part, `.` or `..`")]
    NotNormal,
    #[error("it is too long")]
    TooLong,
    #[error("it has a NUL")]
    Nul,
    #[error("it leads into git's or DVC's own folder")]
    Internal,
}

/// Checks that a path, relative to the project's root, stays inside the project and outside of `.git` and `.dvc`.
pub(crate) fn check(path: &str) -> Result<(), UnsafePath> {
    if path.starts_with('/') {
        return Err(UnsafePath::Absolute);
    }
    if path.len() > MAX_PATH {
        return Err(UnsafePath::TooLong);
    }
    path.split('/').try_for_each(check_name)
}

/// The same of a path in a declared out, which may hold anything: a repository, another project.
pub(crate) fn check_declared(path: &str) -> Result<(), UnsafePath> {
    match check(path) {
        Err(UnsafePath::Internal) => {
            // The first fault counts, and there may be another one behind it.
            let others = path.split('/').map(check_name).filter(|fault| *fault != Err(UnsafePath::Internal));
            others.collect()
        }
        checked => checked,
    }
}

fn check_name(name: &str) -> Result<(), UnsafePath> {
    if matches!(name, "" | "." | "..") {
        Err(UnsafePath::NotNormal)
    } else if name.len() > MAX_NAME {
        Err(UnsafePath::TooLong)
    } else if name.contains('\0') {
        Err(UnsafePath::Nul)
    } else if is_internal(name) {
        Err(UnsafePath::Internal)
    } else {
        Ok(())
    }
}

/// Whether some file system takes the name for `.git` or `.dvc`: without regard to case, to trailing dots and blanks,
/// to characters that HFS+ ignores, or by a short name of NTFS (as in git's `verify_path`).
fn is_internal(name: &str) -> bool {
    let is_ignored_by_hfs = |c: &char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let name: String = name.chars().filter(|c| !is_ignored_by_hfs(c)).collect::<String>().to_lowercase();
    // Behind a colon NTFS has another stream of the same file.
    let name = name.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    matches!(name, ".git" | ".dvc" | "git~1" | "dvc~1")
}

/// Checks the target of a symlink at `path`: relative, and inside the project from there.
pub(crate) fn check_link(path: &str, target: &str) -> Result<(), UnsafePath> {
    if target.starts_with('/') {
        return Err(UnsafePath::Absolute);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop().ok_or(UnsafePath::NotNormal)?;
        } else {
            check_name(part)?;
            parts.push(part);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_project() {
        for path in ["a", "a/b.json", "data.dvc", ".gitignore", "a/.github/x", "…/ü", "a b/c", "git", "a..b", "-"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("/etc/passwd", UnsafePath::Absolute),
            ("", UnsafePath::NotNormal),
            ("..", UnsafePath::NotNormal),
            ("a/../../b", UnsafePath::NotNormal),
            ("a//b", UnsafePath::NotNormal),
            ("a/", UnsafePath::NotNormal),
            ("./a", UnsafePath::NotNormal),
            ("a\0b", UnsafePath::Nul),
            (".git/hooks/x", UnsafePath::Internal),
            ("sub/.git/config", UnsafePath::Internal),
            (".GIT/config", UnsafePath::Internal),
            (".dvc/config", UnsafePath::Internal),
            (".Dvc./config", UnsafePath::Internal),
            (".g\u{200c}it/config", UnsafePath::Internal),
            ("GIT~1/config", UnsafePath::Internal),
            (".git::$INDEX_ALLOCATION/x", UnsafePath::Internal),
        ] {
            assert_eq!(check(path), Err(why), "{path}");
        }
        assert_eq!(check(&"x".repeat(256)), Err(UnsafePath::TooLong));
        assert_eq!(check(&"x/".repeat(3000)), Err(UnsafePath::TooLong));
    }

    #[test]
    fn a_declared_out_may_hold_a_repository() {
        assert_eq!(check_declared("out/.git/objects/info"), Ok(()));
        assert_eq!(check_declared("out/.dvc/config"), Ok(()));
        assert_eq!(check_declared("out/.git/../../x"), Err(UnsafePath::NotNormal));
        assert_eq!(check_declared("/out/.git"), Err(UnsafePath::Absolute));
    }

    #[test]
    fn links_stay_inside_the_project() {
        for target in ["b", "../c", "../x/../y", "./b"] {
            assert_eq!(check_link("a/link", target), Ok(()), "{target}");
        }
        for (target, why) in [
            ("/etc/passwd", UnsafePath::Absolute),
            ("../../etc", UnsafePath::NotNormal),
            ("b/../../../x", UnsafePath::NotNormal),
            ("../.git/config", UnsafePath::Internal),
        ] {
            assert_eq!(check_link("a/link", target), Err(why), "{target}");
        }
    }
}
