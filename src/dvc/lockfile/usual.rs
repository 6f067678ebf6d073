//! An entry with the fields that nearly all have, read from its lines without a tree of values in between.
//!
//! A project has one entry for each stage, and each of them is read by every command: this is where the time goes beside
//! many keys. What is not sure here is left to the reader of values.

use super::block::{self, Event, Kind};
use super::entry::{Builder, LockEntry, LockItem, params, resolve};
use super::scalar::Scalar;
use crate::dvc::pipeline::stage::Recorded;
use crate::dvc::value::Value;

/// Reads the lines of an entry; `None` where it has anything unusual.
pub(super) fn parse(name: &str, text: &str) -> Option<LockEntry> {
    let mut reader = Reader { name, ..Reader::default() };
    block::read(text, |event, _| {
        if !reader.is_unusual {
            reader.is_unusual = reader.event(event).is_none();
        }
    })
    .ok()?;
    reader.entry()
}

/// How many maps and lists are open where the keys of an entry stand.
const ENTRY: usize = 2;
/// The same for the fields of a dep or out.
const ITEM: usize = 4;

#[derive(Default)]
struct Reader<'n> {
    name: &'n str,
    open: usize,
    section: Option<Section>,
    cmd: Option<Value>,
    deps: Option<Vec<LockItem>>,
    outs: Option<Vec<LockItem>>,
    params: Option<Value>,
    /// The values of `params` as they are built.
    values: Builder,
    path: Option<String>,
    recorded: Recorded,
    field: Option<Field>,
    is_unusual: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Cmd,
    Deps,
    Outs,
    Params,
}

#[derive(Clone, Copy)]
enum Field {
    Path,
    Hash,
    Md5,
    Size,
    Nfiles,
    Isexec,
}

impl Reader<'_> {
    /// Takes an event; `None` where it is unusual.
    fn event(&mut self, event: Event<'_>) -> Option<()> {
        match event {
            Event::Open(_) => self.open += 1,
            Event::Close => self.open -= 1,
            _ => {}
        }
        if self.section == Some(Section::Params) {
            return self.value(event);
        }
        match (event, self.open) {
            (Event::Open(Kind::Map), 1 | ENTRY) => Some(()),
            (Event::Open(Kind::List), 3) => matches!(self.section, Some(Section::Deps | Section::Outs)).then_some(()),
            (Event::Open(Kind::Map), ITEM) => Some(()),
            (Event::Key(key), 1) => (resolve(&key)?.as_str()? == self.name).then_some(()),
            (Event::Key(key), ENTRY) => self.begin(&key),
            (Event::Key(key), ITEM) => self.begin_field(&key),
            (Event::Scalar(scalar), ENTRY) if self.section == Some(Section::Cmd) => {
                self.cmd = Some(resolve(&scalar).filter(|cmd| cmd.as_str().is_some())?);
                Some(())
            }
            (Event::Scalar(scalar), ITEM) => self.take(resolve(&scalar)?),
            // A dep or out ends.
            (Event::Close, 3) => {
                let item = LockItem { path: self.path.take()?, recorded: std::mem::take(&mut self.recorded) };
                self.items()?.push(item);
                Some(())
            }
            (Event::Close, 0..=ENTRY) => Some(()),
            _ => None,
        }
    }

    /// Takes an event of what stands below `params`.
    fn value(&mut self, event: Event<'_>) -> Option<()> {
        let is_end = event == Event::Close && self.open == ENTRY;
        self.values.event(event);
        if is_end {
            self.section = None;
            self.params = Some(std::mem::take(&mut self.values).finish()?);
        } else if self.open == ENTRY {
            return None;
        }
        Some(())
    }

    fn begin(&mut self, key: &Scalar<'_>) -> Option<()> {
        let (section, is_new) = match key.raw {
            "cmd" => (Section::Cmd, self.cmd.is_none()),
            "deps" => (Section::Deps, self.deps.replace(vec![]).is_none()),
            "outs" => (Section::Outs, self.outs.replace(vec![]).is_none()),
            "params" => (Section::Params, self.params.is_none()),
            _ => return None,
        };
        self.section = Some(section);
        is_new.then_some(())
    }

    fn begin_field(&mut self, key: &Scalar<'_>) -> Option<()> {
        let (field, is_new) = match key.raw {
            "path" => (Field::Path, self.path.is_none()),
            "hash" => (Field::Hash, self.recorded.hash.is_none()),
            "md5" => (Field::Md5, self.recorded.md5.is_none()),
            "size" => (Field::Size, self.recorded.size.is_none()),
            "nfiles" => (Field::Nfiles, self.recorded.nfiles.is_none()),
            "isexec" => (Field::Isexec, !self.recorded.isexec),
            _ => return None,
        };
        self.field = Some(field);
        is_new.then_some(())
    }

    fn take(&mut self, value: Value) -> Option<()> {
        let recorded = &mut self.recorded;
        match (self.field.take()?, value) {
            (Field::Path, Value::Str(path)) => self.path = Some(path),
            (Field::Hash, Value::Str(hash)) => recorded.hash = Some(hash.into()),
            (Field::Md5, Value::Str(md5)) if !md5.is_empty() => recorded.md5 = Some(md5),
            (Field::Size, Value::Int(size)) => recorded.size = Some(u64::try_from(size).ok()?),
            (Field::Nfiles, Value::Int(number)) => recorded.nfiles = Some(u64::try_from(number).ok()?),
            (Field::Isexec, Value::Bool(true)) => recorded.isexec = true,
            _ => return None,
        }
        Some(())
    }

    fn items(&mut self) -> Option<&mut Vec<LockItem>> {
        match self.section? {
            Section::Deps => self.deps.as_mut(),
            Section::Outs => self.outs.as_mut(),
            Section::Cmd | Section::Params => None,
        }
    }

    fn entry(self) -> Option<LockEntry> {
        if self.is_unusual || self.open != 0 {
            return None;
        }
        let params = match &self.params {
            Some(Value::Map(files)) => params(files).ok()?,
            Some(_) => return None,
            None => vec![],
        };
        let (mut deps, mut outs) = (self.deps.unwrap_or_default(), self.outs.unwrap_or_default());
        deps.shrink_to_fit();
        outs.shrink_to_fit();
        Some(LockEntry { cmd: self.cmd?, deps, params, outs })
    }
}
