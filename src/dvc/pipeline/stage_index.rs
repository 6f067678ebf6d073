//! Which stage of a project is meant, and what there is for each of them.

use std::ops::{Index, IndexMut, Range};

/// A stage's place among the stages of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StageIndex(usize);

impl StageIndex {
    #[cfg(test)]
    pub(crate) const fn new(place: usize) -> Self {
        StageIndex(place)
    }

    /// Those of a stretch of the stages, ascending.
    pub(crate) fn each(stretch: Range<StageIndex>) -> impl Iterator<Item = StageIndex> {
        (stretch.start.0..stretch.end.0).map(StageIndex)
    }
}

/// One thing for each stage of a project, or the stages themselves.
#[derive(Clone, Debug)]
pub(crate) struct PerStage<T>(Vec<T>);

impl<T> PerStage<T> {
    /// For no stages yet.
    pub(crate) const fn new() -> Self {
        PerStage(vec![])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The same for each of these stages.
    pub(crate) fn filled<U: Clone>(&self, with: U) -> PerStage<U> {
        PerStage(vec![with; self.len()])
    }

    /// Takes in what a file has, whose stages come next; returns their stretch.
    pub(crate) fn append(&mut self, more: &mut Vec<T>) -> Range<StageIndex> {
        let start = StageIndex(self.len());
        if self.0.is_empty() {
            self.0 = std::mem::take(more);
        } else {
            self.0.append(more);
        }
        start..StageIndex(self.len())
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = StageIndex> {
        (0..self.len()).map(StageIndex)
    }

    /// Each with the index of its stage.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = (StageIndex, &T)> {
        self.indexes().zip(&self.0)
    }
}

impl<T> Index<StageIndex> for PerStage<T> {
    type Output = T;

    fn index(&self, stage: StageIndex) -> &T {
        &self.0[stage.0]
    }
}

impl<T> IndexMut<StageIndex> for PerStage<T> {
    fn index_mut(&mut self, stage: StageIndex) -> &mut T {
        &mut self.0[stage.0]
    }
}

impl<T> FromIterator<T> for PerStage<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        PerStage(things.into_iter().collect())
    }
}

impl<'a, T> IntoIterator for &'a PerStage<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
