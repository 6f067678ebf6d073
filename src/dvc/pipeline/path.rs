//! Paths as the model writes them: relative to the project's root, with `/`, normalised, `""` for the root itself.
//!
//! A path beside the root begins with `../`; one further out is absolute. Every file has exactly one such text, so that
//! equal text means the same path. Symlinks are not resolved, as in DVC.

/// How the names of `.dvc` files end.
const SUFFIX: &str = ".dvc";

/// Resolves `path`, as written in a file, against `base`, a path of the model.
pub(crate) fn resolve(root: &str, base: &str, path: &str) -> String {
    if is_plain(base) && is_plain(path) && !path.is_empty() {
        return if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") };
    }
    let mut parts: Vec<&str> = if path.starts_with('/') {
        vec![]
    } else if base.starts_with('/') {
        components(base).collect()
    } else {
        components(root).chain(components(base)).collect()
    };
    parts.extend(components(path));
    let resolved = shorten(root, &collapse(&parts));
    // POSIX leaves the meaning of two slashes in front to the system, so Python keeps them.
    if path.starts_with("//") && !path.starts_with("///") { format!("/{resolved}") } else { resolved }
}

/// Returns the directory of a path of the model.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(end) => &path[..end],
        None => "",
    }
}

/// A path, and then the folders above it, the nearest first; without the root.
pub(crate) fn at_and_above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0))
}

/// Returns the last component.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether the path is that of a `.dvc` file.
pub(crate) fn is_dvc_file(path: &str) -> bool {
    path.ends_with(SUFFIX)
}

/// Whether DVC reads stages from files of that name.
pub(crate) fn is_stage_file(path: &str) -> bool {
    file_name(path) == "dvc.yaml" || is_dvc_file(path)
}

/// Returns the path of the model `path` as seen from the directory `from`, another one; `.` for the same directory.
pub(crate) fn relative(root: &str, from: &str, path: &str) -> String {
    if from.is_empty() && is_plain(path) && !path.is_empty() {
        return path.to_owned();
    }
    let from = absolute(root, from);
    let path = absolute(root, path);
    let from: Vec<&str> = components(&from).collect();
    let path: Vec<&str> = components(&path).collect();
    let common = from.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - common);
    let parts: Vec<&str> = up.chain(path[common..].iter().copied()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Returns the absolute form of a path of the model.
pub(crate) fn absolute(root: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let parts: Vec<&str> = components(root).chain(components(path)).collect();
    format!("/{}", collapse(&parts).join("/"))
}

/// Whether a path of the model lies in the project, the root included.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && path != ".." && !path.starts_with("../")
}

/// Whether `path` lies in the directory `directory` or is it; both are paths of the model.
pub(crate) fn is_within(path: &str, directory: &str) -> bool {
    if directory.is_empty() {
        return is_inside(path);
    }
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path as seen from a directory that it lies in, `""` for the top; `None` where it lies elsewhere.
pub(crate) fn inside<'p>(directory: &str, path: &'p str) -> Option<&'p str> {
    if directory.is_empty() { Some(path) } else { path.strip_prefix(directory)?.strip_prefix('/') }
}

/// Whether the text is relative and already normalised (or empty).
fn is_plain(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// Resolves `..` in the components of an absolute path.
fn collapse<'a>(parts: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::with_capacity(parts.len());
    for part in parts {
        if *part == ".." {
            kept.pop();
        } else {
            kept.push(part);
        }
    }
    kept
}

/// Turns the components of an absolute path into a path of the model.
fn shorten(root: &str, parts: &[&str]) -> String {
    let root: Vec<&str> = components(root).collect();
    if parts.starts_with(&root) {
        return parts[root.len()..].join("/");
    }
    let Some((_, beside)) = root.split_last() else { return format!("/{}", parts.join("/")) };
    if parts == beside {
        "..".to_owned()
    } else if !beside.is_empty() && parts.starts_with(beside) {
        format!("../{}", parts[beside.len()..].join("/"))
    } else {
        format!("/{}", parts.join("/"))
    }
}

/// Joins the project's folder in a work tree, `""` for its top, and a path of the project.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") }
}

/// The same for a path of the model, which may lead out of the project but not out of the work tree.
pub(crate) fn from_top(prefix: &str, path: &str) -> String {
    let parts: Vec<&str> = components(prefix).chain(components(path)).collect();
    collapse(&parts).join("/")
}

/// The `dvc.lock` beside a `dvc.yaml`.
pub(crate) fn lock_path(file: &str) -> String {
    format!("{}.lock", file.strip_suffix(".yaml").unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/home/me/project";

    #[track_caller]
    fn check(base: &str, path: &str, expected: &str) {
        assert_eq!(resolve(ROOT, base, path), expected, "{path:?} in {base:?}");
    }

    #[test]
    fn the_nearest_folder_comes_first() {
        assert_eq!(at_and_above("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
        assert_eq!(at_and_above("a").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_path_has_one_text() {
        check("", "a", "a");
        check("", "./a//b/", "a/b");
        check("sub", "../a", "a");
        check("sub", "..", "");
        check("sub", ".", "sub");
        check("sub", "", "sub");
        check("", "../ext", "../ext");
        check("", "..", "..");
        check("", "../../x", "/home/x");
        check("", "/home/me/project/a", "a");
        check("", "/home/me/project", "");
        check("", "/home/me/projects", "../projects");
        check("/tmp", "d", "/tmp/d");
        check("../ext", "d", "../ext/d");
        check("../ext", "../project/d", "d");
        check("", "../../../../../x", "/x");
    }

    #[test]
    fn a_relative_path_leads_back() {
        assert_eq!(relative(ROOT, "sub", "a/b"), "../a/b");
        assert_eq!(relative(ROOT, "", "a/b"), "a/b");
        assert_eq!(relative(ROOT, "a", "a"), ".");
        assert_eq!(relative(ROOT, "a", ""), "..");
        assert_eq!(relative(ROOT, "../ext", "a"), "../project/a");
        assert_eq!(relative(ROOT, "/tmp", ""), "../home/me/project");
    }

    #[test]
    fn names_with_a_common_start_are_not_nested() {
        assert!(is_within("d/x", "d"));
        assert!(is_within("d", "d"));
        assert!(!is_within("d2", "d"));
        assert!(is_within("d", ""));
        assert!(!is_within("../d", ""));
    }
}
