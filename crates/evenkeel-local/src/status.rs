//! What an instance is doing: the file that its shim writes and the driver reads.
//!
//! It is true only for the boot it names; that is why it is never synced to the disk.

use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::world::{Fence, InstancePhase};
use serde::{Deserialize, Serialize};

use crate::process::Ident;

/// `status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: u32,
    pub(crate) instance: InstanceId,
    pub(crate) incarnation: String,
    /// Everything here holds for this boot only.
    pub(crate) boot_id: String,
    pub(crate) phase: Phase,
    /// Since when, in milliseconds after boot.
    pub(crate) since_ms: u64,
    pub(crate) port: u16,
    /// How often the process ended without being asked to.
    pub(crate) exits: u32,
    /// How the process last ended, or why it could not start.
    pub(crate) last_exit: Option<String>,
    /// The process, while there is one.
    pub(crate) process: Option<Ident>,
    /// A start is under way: the process may exist already, though `process` does not name it.
    #[serde(default)]
    pub(crate) starting: bool,
    /// The process said `READY=1`.
    #[serde(default)]
    pub(crate) notified: bool,
    /// Who wrote this.
    pub(crate) shim: Ident,
    /// The highest order so far; lower ones are refused.
    pub(crate) fence: Fence,
    /// Limits that were asked for and that nothing here enforces.
    #[serde(default)]
    pub(crate) not_enforced: Vec<String>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Its process runs.
    Running,
    /// The next start waits.
    Backoff,
    /// A stranger listens on its port.
    PortTaken,
    /// It cannot be started as it is.
    Unstartable,
    /// It was asked to end.
    Stopping,
    /// It has ended because it was asked to; nothing of it runs.
    Stopped,
}

impl Phase {
    /// The same for the kernel; `None` for what does not exist any more.
    pub(crate) fn seen(self) -> Option<InstancePhase> {
        match self {
            Self::Running => Some(InstancePhase::Running),
            Self::Backoff => Some(InstancePhase::Backoff),
            Self::PortTaken => Some(InstancePhase::PortTaken),
            Self::Unstartable => Some(InstancePhase::Unstartable),
            Self::Stopping => Some(InstancePhase::Stopping),
            Self::Stopped => None,
        }
    }
}
