use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// A volume in memory.
#[derive(Default)]
struct Memory(RefCell<BTreeMap<ItemIndex, ItemFiles>>);

impl Memory {
    fn put(&self, index: usize, begun: u32, result: Option<(u32, Ending)>) {
        let begun = Some(AttemptNumber::new(begun));
        let result = result.map(|(attempt, ending)| (AttemptNumber::new(attempt), ending));
        self.0.borrow_mut().insert(ItemIndex::new(index), ItemFiles { begun, result });
    }
}

impl Volume for Memory {
    fn item(&self, index: ItemIndex) -> Result<ItemFiles, Diagnostic> {
        Ok(self.0.borrow().get(&index).cloned().unwrap_or_default())
    }
}

/// One shard with the work items 0, 1, 2.
fn items(retry_commands: bool) -> Items {
    let items = ItemIndex::each(0..3).map(|index| ShardItem { index, attempt: AttemptNumber::FIRST }).collect();
    Items::new(&Shards { count: 1, items, retry_commands }, |_| true)
}

fn tool_failed() -> Ending {
    Ending::ToolFailed { message: "no disk".to_owned() }
}

fn failed() -> Ending {
    Ending::Failed { message: "no data".to_owned() }
}

fn lost() -> Ending {
    Ending::Lost { message: "drained".to_owned() }
}

fn end(ending: Ending, again: bool) -> ShardEnd {
    ShardEnd { place: "pod".to_owned(), ending, again, spares_others: false }
}

/// Events in short: `0.1+` begun, `0.1=Succeeded` finished, `0.1=ToolFailed…` finished and tried again.
fn short(events: &[Event]) -> Vec<String> {
    let one = |event: &Event| match event {
        Event::AttemptStarted { index, attempt, .. } => format!("{index}.{attempt}+"),
        Event::AttemptFinished { index, attempt, ending, retry_after } => {
            let name = format!("{ending:?}");
            let name = name.split(' ').next().unwrap_or_default();
            format!("{index}.{attempt}={name}{}", if retry_after.is_some() { "…" } else { "" })
        }
        Event::Noticed { message } => message.clone(),
    };
    events.iter().map(one).collect()
}

#[track_caller]
fn settled(items: &mut Items, end: &ShardEnd, volume: &Memory) -> Vec<String> {
    short(&items.settle(0, end, volume, true).expect("the volume is readable").expect("nothing is missing"))
}

#[test]
fn a_running_worker_is_seen_to_go_from_one_work_item_to_the_next() {
    let (volume, mut items) = (Memory::default(), items(false));
    let look = |items: &mut Items| short(&items.look(0, "pod", &volume).expect("readable"));
    assert_eq!(look(&mut items), [""; 0]);
    volume.put(0, 1, None);
    assert_eq!(look(&mut items), ["0.1+"]);
    volume.put(0, 1, Some((1, Ending::Succeeded)));
    volume.put(1, 1, Some((1, failed())));
    volume.put(2, 1, None);
    assert_eq!(look(&mut items), ["0.1=Succeeded", "1.1+", "1.1=Failed", "2.1+"]);
    assert_eq!((look(&mut items).len(), items.left()), (0, 1));
}

#[test]
fn what_a_worker_tries_again_by_itself_is_told_and_not_tried_twice() {
    let (volume, mut items) = (Memory::default(), items(true).tried(2));
    let look = |items: &mut Items| short(&items.look(0, "task", &volume).expect("readable"));
    volume.put(0, 1, Some((1, failed())));
    volume.put(1, 1, Some((1, tool_failed())));
    assert_eq!(look(&mut items), ["0.1+", "1.1+"]);
    volume.put(0, 2, Some((1, failed())));
    assert_eq!(look(&mut items), ["0.1=Failed…", "0.2+"]);
    volume.put(0, 2, Some((2, failed())));
    volume.put(1, 2, Some((2, tool_failed())));
    assert_eq!(
        settled(&mut items, &end(tool_failed(), true), &volume),
        ["0.2=Failed", "1.2+", "1.2=ToolFailed…"],
        "a tool may do better elsewhere"
    );
    assert_eq!(items.open().map(ItemIndex::get).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_may_be_tried_again_is_told_when_its_pod_has_ended() {
    let (volume, mut items) = (Memory::default(), items(true));
    volume.put(0, 1, Some((1, failed())));
    volume.put(1, 1, Some((1, tool_failed())));
    volume.put(2, 1, None);
    assert_eq!(short(&items.look(0, "pod", &volume).expect("readable")), ["0.1+", "1.1+", "2.1+"]);
    let first = settled(&mut items, &end(lost(), true), &volume);
    assert_eq!(first, ["0.1=Failed…", "1.1=ToolFailed…", "2.1=Lost…"]);
    volume.put(0, 2, Some((2, Ending::Succeeded)));
    volume.put(1, 2, Some((2, tool_failed())));
    let second = settled(&mut items, &end(tool_failed(), false), &volume);
    assert_eq!(second, ["0.2+", "0.2=Succeeded", "1.2+", "1.2=ToolFailed", "2.1=ToolFailed"]);
    assert_eq!(items.left(), 0);
}

#[test]
fn the_cluster_knows_better_than_its_worker_why_a_pod_was_told_to_end() {
    let (volume, mut items) = (Memory::default(), items(false));
    volume.put(0, 1, Some((1, Ending::Lost { message: "stopped by signal 15".to_owned() })));
    let events = items.settle(0, &end(lost(), true), &volume, true).expect("readable").expect("nothing is missing");
    let Event::AttemptFinished { ending, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!(*ending, lost());
}

#[test]
fn work_items_that_never_began_end_with_their_pod() {
    let (volume, mut items) = (Memory::default(), items(false));
    assert_eq!(settled(&mut items, &end(lost(), true), &volume), [""; 0]);
    assert_eq!(settled(&mut items, &end(failed(), false), &volume), ["0.1=Failed", "1.1=Failed", "2.1=Failed"]);
}

#[test]
fn a_pod_that_ended_well_is_given_time_to_be_seen_on_the_volume() {
    let (volume, mut items) = (Memory::default(), items(false));
    volume.put(0, 1, Some((1, Ending::Succeeded)));
    let well = end(Ending::Succeeded, false);
    assert_eq!(items.settle(0, &well, &volume, true).expect("readable"), None);
    assert_eq!(items.left(), 3, "nothing was told yet");
    let events = items.settle(0, &well, &volume, false).expect("readable").expect("no more patience");
    assert_eq!(short(&events), ["0.1+", "0.1=Succeeded", "1.1=ToolFailed", "2.1=ToolFailed"]);
}

#[test]
fn a_stopped_run_tells_only_of_what_had_begun() {
    let (volume, mut items) = (Memory::default(), items(false));
    volume.put(0, 1, Some((1, Ending::Lost { message: "stopped by signal 15".to_owned() })));
    assert_eq!(settled(&mut items, &end(Ending::Stopped, false), &volume), ["0.1+", "0.1=Stopped"]);
    assert_eq!(items.left(), 0);
}

#[test]
fn attempts_of_earlier_launches_do_not_count_but_their_successes_do() {
    let volume = Memory::default();
    let list = ItemIndex::each(0..2).map(|index| ShardItem { index, attempt: AttemptNumber::new(3) }).collect();
    let mut items = Items::new(&Shards { count: 1, items: list, retry_commands: false }, |_| true);
    volume.put(0, 2, Some((2, failed())));
    volume.put(1, 2, Some((2, Ending::Succeeded)));
    assert_eq!(settled(&mut items, &end(lost(), false), &volume), ["0.3=Lost", "1.2=Succeeded"]);
}
