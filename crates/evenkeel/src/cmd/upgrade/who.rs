//! Which program a process is, as far as it can be seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use evenkeel_kernel::layout;
use serde::{Deserialize, Serialize};

use crate::role;

/// The process of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Who {
    pub(crate) pid: u32,
    /// `None` where it has not said so.
    pub(crate) version: Option<String>,
    pub(crate) program: Option<String>,
}

/// What a role writes down of itself.
#[derive(Debug, Deserialize)]
struct About {
    pid: u32,
    version: String,
    program: String,
}

impl Who {
    /// Who has this role now.
    pub(crate) fn has(home: &Path, name: &str) -> Option<Self> {
        let pid = role::pid_of(home, name)?;
        let text = fs::read(home.join(layout::about_file(name))).ok();
        let about = text.and_then(|text| serde_json::from_slice::<About>(&text).ok());
        // One that was written by somebody else is no news of this process.
        let about = about.filter(|about| about.pid == pid);
        let (version, program) = about.map(|it| (it.version, it.program)).unzip();
        Some(Self { pid, version, program })
    }

    pub(crate) fn is_ours(&self) -> bool {
        is_ours(self.pid)
    }

    pub(crate) fn version(&self) -> &str {
        self.version.as_deref().unwrap_or("unknown version")
    }
}

/// Whether a process runs the very program that this one runs: the same file, not only the same
/// name.
pub(crate) fn is_ours(pid: u32) -> bool {
    let file = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|it| (it.dev(), it.ino()));
    match (file(&pid.to_string()), file("self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        (_, _) => false,
    }
}
