//! A DVC project as DVC sees it: stages, their deps and outs, the graph and the order of `dvc repro`.
//!
//! | step | folder | in it |
//! |---|---|---|
//! | which files are read, in which order, and what may stand in them | `read/` | `discover.rs`, `schema.rs`, `lock.rs` |
//! | `.dvc` files and the sections beside `stages` | `read/` | `dvc_file.rs`, `sections.rs` |
//! | what DVC does not see | `ignore/` | `pattern.rs` |
//! | variables | `resolve/` | `context.rs` |
//! | `${…}` | `resolve/` | `expression.rs`, `template.rs`, `text.rs` |
//! | foreach, matrix and plain definitions to stages | `resolve/` | `define.rs`, `expand.rs`, `build.rs`, `url.rs` |
//! | who needs whom, and the order of `dvc repro` | `graph/` | `trie.rs` |
//! | what a target on the command line means | `graph/` | `target.rs` |
//!
//! What they speak of stands beside them: `project.rs`, `stage.rs`, `stage_index.rs`, `path.rs`; so does what they read from, `source.rs`
//! and `env.rs`, and what they say when they cannot, `error.rs`.

mod env;
mod error;
pub(crate) mod graph;
pub(crate) mod ignore;
pub(crate) mod path;
pub(crate) mod project;
pub(crate) mod read;
mod resolve;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod stage_index;
#[cfg(test)]
mod tests;
