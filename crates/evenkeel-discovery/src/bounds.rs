//! How many connections there may be, by the files that this process may have open.

use evenkeel_kernel::model::Discovery;
use rustix::process::{Resource, getrlimit};

/// Connections of each kind at a time; others wait in the kernel's queue, and questions that would
/// be forwarded are told that it cannot be done now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// A thousand watchers, and several times as many.
    pub(crate) http: usize,
    /// Each client has one.
    pub(crate) xds: usize,
    /// Answers that were too long for UDP.
    pub(crate) tcp: usize,
    /// Questions that others are asked at one time.
    pub(crate) forward: usize,
}

impl Bounds {
    /// What fits.
    pub(crate) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = usize::try_from(Discovery::files(limit)).unwrap_or(usize::MAX);
        Self {
            http: (files / 2).clamp(16, 8_192),
            xds: (files / 4).clamp(16, 4_096),
            tcp: (files / 8).clamp(8, 512),
            forward: (files / 8).clamp(8, 256),
        }
    }
}
