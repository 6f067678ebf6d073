//! `dvc-fanout`: fans the `foreach` and `matrix` stages of a DVC project out and merges the results back.

mod diagnostic;
mod env;
mod exit;
mod model;

fn main() {}
