//! What a snapshot does not look at, since workers get it in another way or not at all.

use std::collections::HashSet;
use std::path::Path;

use crate::dvc::pipeline::path::{self, join};
use crate::dvc::pipeline::project::Project;
use crate::state::home::ProjectHome;

/// What is DVC's own or this program's own, in every project. Git ignores it, but it may not be asked.
const INTERNAL: [&str; 4] = [".dvc/cache", ".dvc/config.local", ".dvc/fanout", ".dvc/tmp"];
/// The one file there that belongs to the project.
const SETTINGS: &str = ".dvc/fanout/config.yaml";

/// Paths relative to the top of the work tree; with each, all that lies below.
pub(crate) struct Unseen {
    paths: HashSet<String>,
    settings: String,
}

impl Unseen {
    /// The cached outs of a project, which workers get from the cache, and what is nobody's input.
    pub(crate) fn of(home: &ProjectHome, project: &Project, prefix: &str) -> Unseen {
        let outs = project.stages.iter().flat_map(|stage| &stage.outs).filter(|out| out.cache);
        let outs = outs.filter_map(|out| out.resolved.as_deref()).filter(|path| path::is_inside(path));
        let cache = Path::new(&home.config.cache_dir).strip_prefix(&home.root).ok().and_then(Path::to_str);
        let paths = outs.chain(INTERNAL).chain(cache.filter(|cache| !cache.is_empty()));
        Unseen { paths: paths.map(|path| join(prefix, path)).collect(), settings: join(prefix, SETTINGS) }
    }

    /// Whether a path is not looked at.
    pub(crate) fn covers(&self, path: &str) -> bool {
        path != self.settings && path::at_and_above(path).any(|path| self.paths.contains(path))
    }
}
