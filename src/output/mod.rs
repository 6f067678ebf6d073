//! What people and programs read. The only room that prints.

pub(crate) mod changes;
pub(crate) mod checkup;
pub(crate) mod collection;
pub(crate) mod json;
pub(crate) mod picture;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod text;
mod value_json;
pub(crate) mod verify;
pub(crate) mod watch;
