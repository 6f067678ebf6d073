//! What is written in a `dvc.yaml` to stages: variables, `${…}`, foreach and matrix, paths and URLs.

pub(crate) mod build;
pub(crate) mod context;
pub(crate) mod define;
pub(crate) mod expand;
pub(crate) mod expression;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod url;
