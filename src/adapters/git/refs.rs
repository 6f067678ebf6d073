//! The refs of a repository, for another one that is to have the same.

use git2::Repository;

use super::{Doing as _, GitError};

/// What a repository has checked out, and what it has beside.
#[derive(Clone, Debug, Default)]
pub(super) struct Refs {
    /// The branch, as `refs/heads/NAME`; `None` where none is checked out.
    pub branch: Option<String>,
    /// The others: name and object.
    pub others: Vec<(String, String)>,
    /// Those that stand for another one (`refs/remotes/origin/HEAD`): name and name.
    pub symbolic: Vec<(String, String)>,
}

impl Refs {
    pub(super) fn of(repository: &Repository) -> Result<Refs, GitError> {
        let head = repository.find_reference("HEAD").doing("read HEAD")?;
        let branch = head.symbolic_target().doing("read HEAD")?.map(str::to_owned);
        let (mut others, mut symbolic) = (vec![], vec![]);
        for found in repository.references().doing("list refs")? {
            let found = found.doing("list refs")?;
            // A name that is not UTF-8 cannot be asked for here either.
            let Ok(name) = found.name() else { continue };
            if let Ok(Some(target)) = found.symbolic_target() {
                symbolic.push((name.to_owned(), target.to_owned()));
            } else if let Some(target) = found.target()
                && Some(name) != branch.as_deref()
            {
                others.push((name.to_owned(), target.to_string()));
            }
        }
        symbolic.sort_unstable();
        Ok(Refs { branch, others, symbolic })
    }

    /// The text of `packed-refs` with the same refs and of `HEAD` on the same branch, where HEAD is that commit.
    pub(super) fn texts(&self, head: Option<&str>) -> (String, String) {
        let branch = self.branch.as_deref();
        let mut refs: Vec<(&str, &str)> = self.others.iter().map(|(name, target)| (&**name, &**target)).collect();
        refs.extend(branch.zip(head));
        refs.sort_unstable();
        let packed = refs.into_iter().map(|(name, target)| target.to_owned() + " " + name + "\n").collect();
        let head = branch.map_or_else(|| head.unwrap_or_default().to_owned(), |branch| format!("ref: {branch}"));
        (packed, head + "\n")
    }
}
