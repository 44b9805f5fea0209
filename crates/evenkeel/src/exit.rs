//! Exit codes. They are part of the interface; `evenkeel --help` documents them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done: the release is promoted, there is nothing to change, all is well.
    Done,
    /// Something went wrong, or was refused.
    Error,
    /// `plan` found changes.
    Changes,
    /// The release was taken back: rolled back, aborted or superseded.
    TakenBack,
    /// A signal ended it, and everything it had started was taken down.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Changes => 2,
            Exit::TakenBack => 3,
            // As a shell says it of a program that Ctrl-C ended.
            Exit::Interrupted => 130,
        })
    }
}
