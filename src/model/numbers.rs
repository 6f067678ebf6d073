//! Numbers that are not to be mixed up.

use std::fmt::{Display, Formatter};
use std::num::ParseIntError;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A work item's place in the worklist, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ItemIndex(usize);

impl ItemIndex {
    pub(crate) const fn new(place: usize) -> Self {
        ItemIndex(place)
    }

    pub(crate) fn get(self) -> usize {
        self.0
    }

    /// Those of a stretch of the worklist, ascending.
    pub(crate) fn each(places: Range<usize>) -> impl Iterator<Item = ItemIndex> + Clone {
        places.map(ItemIndex)
    }
}

impl Display for ItemIndex {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ItemIndex {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(ItemIndex)
    }
}

/// The number of an attempt at a work item, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AttemptNumber(u32);

impl AttemptNumber {
    pub(crate) const FIRST: AttemptNumber = AttemptNumber(1);

    pub(crate) const fn new(number: u32) -> Self {
        AttemptNumber(number)
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    pub(crate) fn next(self) -> Self {
        self.after(1)
    }

    /// The one that comes so many attempts later.
    pub(crate) fn after(self, attempts: u32) -> Self {
        AttemptNumber(self.0.saturating_add(attempts))
    }
}

impl Display for AttemptNumber {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AttemptNumber {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(AttemptNumber)
    }
}
