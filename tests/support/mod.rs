//! What the tests share: projects in temporary folders and the three real programs.

#[cfg(feature = "kubernetes")]
pub(crate) mod apiserver;
