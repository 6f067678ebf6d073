//! Slots that a worker left behind: ending what still runs there, and removing those that nobody uses or will use.

use std::collections::BTreeSet;
use std::time::Duration;

use rayon::prelude::*;

use crate::adapters::fs::{self, FsError};
use crate::adapters::git::kept;
use crate::adapters::process::descendants;
use crate::env;
use crate::state::paths::{FanoutDir, SlotDir};

/// How long processes that were left in a slot are chased.
const GRACE: Duration = Duration::from_secs(5);
/// A workspace with fewer files of the snapshot is made in no time, and not kept.
const FEW: usize = 1_000;
/// How many files of the snapshot, and how many bytes, workspaces that are kept may hold together.
const MOST_FILES: usize = 50_000;
const MOST_BYTES: u64 = 256 << 20;

/// Ends what still runs in slots that a worker left in a hurry and that nobody uses.
pub(crate) fn end_all_leftovers(fanout: &FanoutDir) -> Result<(), FsError> {
    for slot in all(fanout)? {
        if let Some(_lock) = fs::try_lock(&slot.lock())? {
            end_if_left_in_a_hurry(&slot);
        }
    }
    Ok(())
}

/// The slots that there are, by their numbers.
fn all(fanout: &FanoutDir) -> Result<Vec<SlotDir>, FsError> {
    let folder = fanout.slots();
    let numbers = fs::names(&folder)?.into_iter().filter_map(|name| name.trim_end_matches(".lock").parse().ok());
    let numbers: BTreeSet<usize> = numbers.collect();
    Ok(numbers.into_iter().map(|number| SlotDir::new(&folder, number)).collect())
}

fn end_if_left_in_a_hurry(slot: &SlotDir) {
    if fs::exists(slot.path()) && !fs::exists(&slot.clean()) {
        end_leftovers(slot);
    }
}

/// Ends what still runs in a slot whose worker is gone.
pub(crate) fn end_leftovers(slot: &SlotDir) {
    descendants::end_marked(env::DVC_FANOUT_SLOT, slot.path(), GRACE);
}

/// Removes the slots that no worker uses, but for the workspaces that the next run had better bring up to date than make
/// anew. `private` is the path in one of what only a run may need, and nobody else is to see.
pub(crate) fn leave_to_next_run(fanout: &FanoutDir, private: &str) -> Result<(), FsError> {
    let (mut files, mut bytes) = (0, 0);
    let mut others = vec![];
    for slot in all(fanout)? {
        let Some(_lock) = fs::try_lock(&slot.lock())? else { continue };
        let own = if fs::exists(&slot.clean()) { kept::size(&slot.manifest()).unwrap_or_default() } else { (0, 0) };
        if own.0 < FEW || files + own.0 > MOST_FILES || bytes + own.1 > MOST_BYTES {
            others.push(slot);
            continue;
        }
        (files, bytes) = (files + own.0, bytes + own.1);
        let stays = [slot.workspace(), slot.manifest(), slot.clean()];
        for at in fs::names(slot.path())?.iter().map(|name| slot.path().join(name)).filter(|at| !stays.contains(at)) {
            fs::remove(&at)?;
        }
        fs::remove(&slot.workspace().join(private))?;
    }
    remove_these(fanout, &others).map(drop)
}

/// Removes the slots that no worker uses, be it of this run or another; returns how many there were.
pub(crate) fn remove_unused(fanout: &FanoutDir) -> Result<usize, FsError> {
    remove_these(fanout, &all(fanout)?)
}

fn remove_these(fanout: &FanoutDir, slots: &[SlotDir]) -> Result<usize, FsError> {
    // Each holds as many files as the project.
    let removed: Vec<bool> = slots.par_iter().map(remove).collect::<Result<_, FsError>>()?;
    fs::remove_if_empty(&fanout.slots())?;
    Ok(removed.into_iter().filter(|was_there| *was_there).count())
}

/// Removes a slot unless a worker uses it; returns whether it is gone and was there.
fn remove(slot: &SlotDir) -> Result<bool, FsError> {
    let Some(_lock) = fs::try_lock(&slot.lock())? else { return Ok(false) };
    let was_there = fs::exists(slot.path());
    end_if_left_in_a_hurry(slot);
    fs::remove(slot.path())?;
    fs::remove(&slot.lock())?;
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_use_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fanout = FanoutDir::of(dir.path());
        let slot = |number| SlotDir::new(&fanout.slots(), number);
        for number in [0, 1, 2] {
            fs::write(&slot(number).clean(), b"").expect("written");
        }
        let used = fs::try_lock(&slot(1).lock()).expect("no error").expect("free");
        assert_eq!(remove_unused(&fanout).expect("removed"), 2);
        assert_eq!(fs::names(&fanout.slots()).expect("listed"), ["1", "1.lock"]);
        drop(used);
        assert_eq!(remove_unused(&fanout).expect("removed"), 1);
        assert!(!fanout.slots().exists());
    }
}
