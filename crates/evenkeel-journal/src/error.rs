//! Why a store could not do what it was asked: a kind to branch on, and a text for people.

use std::path::PathBuf;

use evenkeel_kernel::model::Epoch;

use crate::store::Version;

/// Why a store could not do what it was asked.
///
/// `kind` is what callers branch on; the text is for people.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {kind}")]
pub struct StoreError {
    /// What was being done, as a fragment: "commit version 7".
    pub doing: String,
    /// Why it failed.
    pub kind: Kind,
    /// What the system said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// Another epoch than the caller's is the newest: this controller must end.
    #[error("{claimed} was claimed by a newer controller")]
    Fenced {
        /// The newest epoch.
        claimed: Epoch,
    },
    /// The state is not the one that was decided from.
    #[error("the state is at {found}, not at {expected}")]
    Conflict {
        /// What the caller decided from.
        expected: Version,
        /// What is there.
        found: Version,
    },
    /// There is no room on the disk, or the quota is used up.
    #[error("no room is left on the disk")]
    Full,
    /// What is stored is not what was written.
    #[error("{}", corrupt(because, backup.as_ref()))]
    Corrupt {
        /// What does not fit.
        because: String,
        /// The newest backup that is whole.
        backup: Option<PathBuf>,
    },
    /// It was written by a newer version of this program.
    #[error("it has format {found}, and this program reads formats up to {reads}")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format this program reads.
        reads: u32,
    },
    /// Another controller has it open.
    #[error("{}", locked(*pid))]
    Locked {
        /// That controller's process, if it could be learnt.
        pid: Option<u32>,
    },
    /// The place cannot keep a promise of durability, and why.
    #[error("{0}")]
    Unsuitable(String),
    /// A bound was exceeded; nothing was written.
    #[error("it exceeds a bound")]
    TooLarge,
    /// An earlier write failed with an unknown result: the process must end and read again.
    #[error("an earlier write failed, so what is stored is unknown until it is read again")]
    Poisoned,
    /// The system refused.
    #[error("the system refused")]
    Io,
}

fn corrupt(because: &str, backup: Option<&PathBuf>) -> String {
    match backup {
        Some(path) => {
            format!("{because}; the newest backup that is whole is {}", path.display())
        }
        None => format!("{because}; there is no backup that is whole"),
    }
}

fn locked(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another controller has it open, process {pid}"),
        None => "another controller has it open".to_owned(),
    }
}

impl StoreError {
    pub(crate) fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Self { doing: doing.into(), kind, source: None }
    }

    pub(crate) fn corrupt(because: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt { because: because.into(), backup: None }, "read the journal")
    }

    /// A failure of the file system.
    pub(crate) fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
        let kind = if full.contains(&source.kind()) { Kind::Full } else { Kind::Io };
        Self { doing: doing.into(), kind, source: Some(Box::new(source)) }
    }

    /// A failure of SQLite.
    pub(crate) fn sqlite(doing: impl Into<String>, source: rusqlite::Error) -> Self {
        let code = source.sqlite_error_code();
        let is = |wanted| code == Some(wanted);
        let kind = if is(rusqlite::ErrorCode::DiskFull) {
            Kind::Full
        } else if is(rusqlite::ErrorCode::DatabaseCorrupt) || is(rusqlite::ErrorCode::NotADatabase)
        {
            Kind::Corrupt { because: source.to_string(), backup: None }
        } else {
            Kind::Io
        };
        Self { doing: doing.into(), kind, source: Some(Box::new(source)) }
    }
}
