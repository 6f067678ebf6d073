//! Exit codes: an interface that a Job's `podFailurePolicy` and Jenkins read.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, or nothing to do |
//! | 1 | some work items failed; `merge-driver`: conflict markers are left, as git expects it |
//! | 2 | the command line is wrong |
//! | 3 | conflicts remain |
//! | 4 | the project is not usable as it is |
//! | 5 | a tool or a service failed; worth retrying |
//! | 10 | `plan --exit-code`: there is something to do |
//! | 70 | internal error |
//! | 128+n | ended by signal n |
//!
//! DVC's own codes 251 to 255 are never used.

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Success,
    /// Some work items failed; everything good is kept.
    WorkItemsFailed,
    /// `merge-driver` left conflict markers.
    ConflictMarkers,
    /// The command line is wrong.
    Usage,
    /// A merge left conflicts; nothing was written.
    Conflicts,
    /// The project is not usable as it is; a retry cannot help.
    Project,
    /// A tool or a service failed; a retry may help.
    Tool,
    /// `plan --exit-code`: there is something to do.
    SomethingToDo,
    /// A bug of this program.
    Internal,
    /// Ended by this signal.
    Signal(u8),
    /// As the program ended that this one oversees.
    OfProgram(u8),
}

impl Exit {
    /// Returns the number for `exit(3)`.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::WorkItemsFailed | Exit::ConflictMarkers => 1,
            Exit::Usage => 2,
            Exit::Conflicts => 3,
            Exit::Project => 4,
            Exit::Tool => 5,
            Exit::SomethingToDo => 10,
            Exit::Internal => 70,
            Exit::Signal(signal) => 128u8.saturating_add(signal),
            Exit::OfProgram(code) => code,
        }
    }
}
