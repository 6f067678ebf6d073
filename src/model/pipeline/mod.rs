//! A DVC project as DVC sees it: stages, their deps and outs, the graph and the order of `dvc repro`.

pub(crate) mod source;
pub(crate) mod stage;
