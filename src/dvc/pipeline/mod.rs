//! A DVC project as DVC sees it: stages, their deps and outs, the graph and the order of `dvc repro`.
//!
//! | step | file |
//! |---|---|
//! | which files are read, and in which order | `discover.rs`, `ignore.rs`, `ignore_pattern.rs` |
//! | what may stand in them | `schema.rs`, `lock.rs` |
//! | variables | `context.rs` |
//! | `${…}` | `expression.rs`, `template.rs`, `text.rs` |
//! | foreach, matrix and plain definitions to stages | `define.rs`, `expand.rs`, `build.rs`, `url.rs` |
//! | `.dvc` files and the sections beside `stages` | `dvc_file.rs`, `top.rs` |
//! | who needs whom, and the order of `dvc repro` | `graph.rs` |
//! | what a target on the command line means | `target.rs` |

mod build;
mod context;
mod define;
mod discover;
pub(crate) mod dvc_file;
pub(crate) mod error;
mod expand;
mod expression;
pub(crate) mod graph;
pub(crate) mod ignore;
pub(crate) mod ignore_pattern;
pub(crate) mod load;
mod lock;
pub(crate) mod path;
mod schema;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod target;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod top;
mod url;
