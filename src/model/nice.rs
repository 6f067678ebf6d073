//! How much lower the priority of commands is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// By how much a priority is lowered, as nice(1) does: from 0 to 19.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub(crate) struct Nice(u8);

/// Why a number is none of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is a number from 0 to {}", Nice::MOST)]
pub(crate) struct NotNice;

impl Nice {
    /// What no process is beyond.
    const MOST: u8 = 19;

    /// The priority that comes of another by it.
    pub(crate) fn below(self, priority: i32) -> i32 {
        priority.saturating_add(self.0.into()).min(Nice::MOST.into())
    }
}

impl TryFrom<i64> for Nice {
    type Error = NotNice;

    fn try_from(number: i64) -> Result<Self, NotNice> {
        u8::try_from(number).ok().filter(|number| *number <= Nice::MOST).map(Nice).ok_or(NotNice)
    }
}

impl From<Nice> for i64 {
    fn from(nice: Nice) -> i64 {
        nice.0.into()
    }
}

impl FromStr for Nice {
    type Err = NotNice;

    fn from_str(text: &str) -> Result<Self, NotNice> {
        text.parse::<i64>().map_err(|_| NotNice)?.try_into()
    }
}

impl fmt::Display for Nice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_from_0_to_19() {
        let read = |text: &str| text.parse::<Nice>().ok().map(|nice| nice.to_string());
        for good in ["0", "3", "19"] {
            assert_eq!(read(good).as_deref(), Some(good));
        }
        for wrong in ["-1", "20", "100", "2147483647", "99999999999999999999", "1.5", "much", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_process_is_nicer_than_the_nicest() {
        let below = |nice: i64, priority| Nice::try_from(nice).expect("a number of those").below(priority);
        assert_eq!((below(3, 0), below(19, 15), below(0, -20)), (3, 19, -20));
    }
}
