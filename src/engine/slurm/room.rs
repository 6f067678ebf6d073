//! How many tasks of each array may run at a time where there is a limit for all of them together. Pure.

use std::collections::BTreeMap;

/// What one array gets of the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Tasks at a time; `None` leaves it to the scheduler.
    pub at_a_time: Option<usize>,
    /// The arrays that have to be over before it begins, by their place in the list: there are more arrays than may run.
    pub after: Vec<usize>,
}

/// Shares the limits of a phase out over its arrays, each with its number of tasks and its group.
pub(super) fn share(
    arrays: &[(usize, Option<&str>)],
    jobs: Option<usize>,
    groups: &BTreeMap<String, usize>,
) -> Vec<Room> {
    let mut rooms = vec![Room::default(); arrays.len()];
    if let Some(limit) = jobs {
        let all: Vec<usize> = (0..arrays.len()).collect();
        share_one(limit, &all, arrays, &mut rooms);
    }
    for (name, &limit) in groups {
        let own: Vec<usize> = (0..arrays.len()).filter(|place| arrays[*place].1 == Some(name)).collect();
        share_one(limit, &own, arrays, &mut rooms);
    }
    rooms
}

/// Shares one limit out over some of the arrays, none of which gets more than it has tasks.
fn share_one(limit: usize, places: &[usize], arrays: &[(usize, Option<&str>)], rooms: &mut [Room]) {
    let limit = limit.max(1);
    let mut shares = vec![1; places.len()];
    let mut left = limit.saturating_sub(places.len());
    while left > 0 {
        let before = left;
        for (share, place) in shares.iter_mut().zip(places) {
            if left > 0 && *share < arrays[*place].0 {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    for (number, (share, &place)) in shares.into_iter().zip(places).enumerate() {
        let room = &mut rooms[place];
        room.at_a_time = Some(room.at_a_time.map_or(share, |most| most.min(share)));
        if let Some(before) = number.checked_sub(limit)
            && !room.after.contains(&places[before])
        {
            room.after.push(places[before]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrays: &[(usize, Option<&str>)], jobs: Option<usize>, api: Option<usize>, wanted: &[(usize, &[usize])]) {
        let groups = api.map(|limit| ("api".to_owned(), limit)).into_iter().collect();
        let rooms = share(arrays, jobs, &groups);
        let found: Vec<(usize, &[usize])> =
            rooms.iter().map(|room| (room.at_a_time.unwrap_or(0), room.after.as_slice())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn limits_are_shared_out_over_arrays() {
        check(&[(10, None)], None, None, &[(0, &[])]);
        check(&[(10, None)], Some(4), None, &[(4, &[])]);
        check(&[(10, None), (10, None)], Some(5), None, &[(3, &[]), (2, &[])]);
        check(&[(1, None), (10, None)], Some(6), None, &[(1, &[]), (5, &[])]);
        check(&[(2, None), (2, None)], Some(100), None, &[(2, &[]), (2, &[])]);
    }

    #[test]
    fn more_arrays_than_may_run_come_one_after_another() {
        check(&[(5, None), (5, None), (5, None)], Some(2), None, &[(1, &[]), (1, &[]), (1, &[0])]);
        check(
            &[(5, Some("api")), (9, None), (5, Some("api")), (5, Some("api"))],
            None,
            Some(1),
            &[(1, &[]), (0, &[]), (1, &[0]), (1, &[2])],
        );
        check(&[(5, Some("api")), (5, None)], Some(8), Some(2), &[(2, &[]), (4, &[])]);
    }
}
