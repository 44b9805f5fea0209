//! What the driver knows of each instance: a copy of what lies on the disk, and whether its shim
//! lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::{InstanceId, PoolId, RevisionNumber};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, InstancePhase, Platform};

use super::Wanted;
use super::meter::Meter;
use super::watch::{Watch, reap};
use crate::folder::Folder;
use crate::process::Ident;
use crate::spec::Spec;
use crate::status::{Phase, Status};

/// The longest pause between two tries to start a shim that does not come up.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A shim that lived this long was not stillborn; the next is started at once.
const STEADY: Duration = Duration::from_secs(10);
/// How long ago a file must have been changed for its times to tell that it was not changed since:
/// longer than any kernel's tick.
const SETTLED: Duration = Duration::from_millis(50);
/// The first one.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// All instances that have a folder, or are about to get one.
#[derive(Default)]
pub(super) struct Book {
    entries: BTreeMap<InstanceId, Entry>,
}

/// One instance.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) status: Option<Status>,
    /// Inode and change time of the file that `status` was read from.
    stamp: Option<(u64, i64, i64)>,
    /// Its shim, while it lives.
    shim: Option<Shim>,
    /// What is on the disk, as far as we have read or written it.
    pub(super) spec: Option<Spec>,
    /// When the status began, on the caller's clock; kept so that it does not waver.
    since: Option<(u64, Timestamp)>,
    /// Tries to start a shim that came to nothing, in a row.
    pub(super) failures: u32,
    /// The wait before the next try is over.
    pub(super) waited: bool,
    /// The shim has acknowledged this order to stop, then.
    pub(super) stop_sent: Option<Instant>,
    /// How much processor time it uses, if somebody asks for it.
    pub(super) meter: Option<Meter>,
}

/// A living shim, and the handle by which its end is noticed.
struct Shim {
    ident: Ident,
    held: Instant,
    _handle: OwnedFd,
}

/// Whether an instance exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// There is nothing of it, at most what it has left behind.
    Absent,
    /// A shim has been started and has not said anything yet.
    Starting,
    /// Its shim lives.
    Held,
    /// Its shim is gone without having ended it.
    Lost,
}

impl Entry {
    pub(super) fn life(&self) -> Life {
        match (&self.shim, &self.status) {
            (None, None) => Life::Absent,
            (None, Some(status)) if status.phase == Phase::Stopped => Life::Absent,
            (None, Some(_)) => Life::Lost,
            (Some(shim), Some(status)) if shim.ident == status.shim => Life::Held,
            (Some(_), _) => Life::Starting,
        }
    }

    /// Its shim, while it lives.
    pub(super) fn shim(&self) -> Option<Ident> {
        self.shim.as_ref().map(|shim| shim.ident)
    }

    /// How long to wait before the next try to start its shim.
    pub(super) fn retry_after(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        match self.failures {
            0 => Duration::ZERO,
            _ if self.waited => Duration::ZERO,
            _ => RETRY_FIRST.saturating_mul(factor).min(RETRY_MAX),
        }
    }
}

impl Book {
    pub(super) fn all(&self) -> impl Iterator<Item = InstanceId> {
        self.entries.keys().cloned()
    }

    pub(super) fn of_pool(&self, pool: &PoolId) -> impl Iterator<Item = InstanceId> {
        let first = pool.instance(0);
        self.entries.range(first..).map(|(id, _)| id).take_while(|id| id.pool == *pool).cloned()
    }

    /// Whether another attempt of the same job is there, or is in somebody's hands.
    pub(super) fn is_crowded(&self, id: &InstanceId, busy: &BTreeSet<InstanceId>) -> bool {
        let first = PoolId::new(&id.pool.service, RevisionNumber(0)).instance(0);
        let same_name = self.entries.range(first..);
        same_name
            .take_while(|(other, _)| other.pool.service == id.pool.service)
            .filter(|(other, _)| *other != id)
            // A service may have had the name before.
            .filter(|(_, entry)| entry.spec.as_ref().is_none_or(|spec| spec.once))
            .any(|(other, entry)| entry.life() != Life::Absent || busy.contains(other))
    }

    pub(super) fn entry(&mut self, id: &InstanceId) -> &mut Entry {
        self.entries.entry(id.clone()).or_default()
    }

    /// An instance whose process runs.
    pub(super) fn running(&mut self, id: &InstanceId) -> Option<&mut Entry> {
        let runs = |entry: &Entry| {
            let phase = entry.status.as_ref().map(|status| status.phase);
            entry.life() == Life::Held && phase == Some(Phase::Running)
        };
        self.entries.get_mut(id).filter(|entry| runs(entry))
    }

    pub(super) fn life(&self, id: &InstanceId) -> Life {
        self.entries.get(id).map_or(Life::Absent, Entry::life)
    }

    pub(super) fn forget(&mut self, id: &InstanceId) {
        self.entries.remove(id);
    }

    /// Takes note of a shim that was started just now.
    pub(super) fn started(&mut self, id: &InstanceId, pid: u32, watch: &Watch) {
        let entry = self.entry(id);
        entry.stop_sent = None;
        if !Ident::of(pid).is_some_and(|ident| entry.hold(id, ident, watch)) {
            // It has ended already, and nobody will report it.
            entry.failures = entry.failures.saturating_add(1);
            reap(pid);
        }
    }

    /// Takes note of the end of a shim. Returns whether it was the one that counts.
    pub(super) fn shim_ended(&mut self, id: &InstanceId, pid: u32) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let Some(shim) = entry.shim.take_if(|shim| shim.ident.pid == pid) else { return false };
        let as_asked = entry
            .status
            .as_ref()
            .is_some_and(|status| status.shim == shim.ident && status.phase == Phase::Stopped);
        entry.failures = match as_asked || shim.held.elapsed() >= STEADY {
            true => 0,
            false => entry.failures.saturating_add(1),
        };
        true
    }

    /// Reads the status on the disk, if it changed, and looks whether its shim lives.
    pub(super) fn read(&mut self, id: &InstanceId, folder: &Folder, boot_id: &str, watch: &Watch) {
        let entry = self.entry(id);
        let meta = fs::metadata(folder.status_path()).ok();
        let stamp = meta.as_ref().map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec()));
        let changed = meta.and_then(|meta| meta.modified().ok()?.elapsed().ok());
        if stamp.is_some() && stamp == entry.stamp {
            return entry.look(id, watch);
        }
        // Of another boot nothing is left but the files.
        let status = folder.status().ok();
        entry.status = status.filter(|status| status.boot_id == boot_id && status.instance == *id);
        // A change within the clock's tick would leave the times as they are.
        entry.stamp = stamp.filter(|_| changed.is_some_and(|it| it >= SETTLED));
        if entry.spec.is_none() {
            entry.spec = folder.spec().ok();
        }
        entry.look(id, watch);
    }

    /// Whether a worker has something to do for an instance, as far as can be seen from here.
    pub(super) fn needs_work(&self, id: &InstanceId, wanted: &Wanted) -> bool {
        let Some(entry) = self.entries.get(id) else { return true };
        let (life, slot) = (entry.life(), wanted.pool.slots.get(&id.slot));
        match (slot, &entry.status, &entry.spec) {
            (None, _, _) => life != Life::Absent && entry.stop_sent.is_none(),
            (Some(slot), Some(status), Some(spec)) => {
                // Orders to an instance name its incarnation, which is never used again; so within
                // one epoch no order can be mistaken for another, and its fence may lag behind.
                life != Life::Held
                    || status.fence.epoch < wanted.pool.fence.epoch
                    || spec.fence.epoch < wanted.pool.fence.epoch
                    || spec.port != slot.port
                    || status.port != slot.port
            }
            (Some(_), _, _) => true,
        }
    }

    /// The kernel's view of it all.
    pub(super) fn platform(&mut self, now: Timestamp, now_ms: u64) -> Platform {
        let instances = self.entries.iter_mut().filter_map(|(id, entry)| {
            let instance = entry.instance(now, now_ms)?;
            Some((id.clone(), instance))
        });
        Platform { instances: instances.collect() }
    }
}

impl Entry {
    /// Looks whether the shim that the status names lives, unless it is being watched already.
    fn look(&mut self, id: &InstanceId, watch: &Watch) {
        let Some(status) = &self.status else { return };
        let named = status.shim;
        match &self.shim {
            Some(shim) if shim.ident == named => {}
            // One that we have started ourselves and that has not written its status yet.
            Some(shim) if shim.ident.lives() => {}
            Some(_) | None => {
                self.shim = None;
                if named.lives() {
                    // Ended at this very moment: then it is gone.
                    let _held = self.hold(id, named, watch);
                }
            }
        }
    }

    fn hold(&mut self, id: &InstanceId, ident: Ident, watch: &Watch) -> bool {
        let Some(handle) = ident.open() else { return false };
        // Unwatched, its end is noticed by the next look.
        let _best_effort = watch.add(&handle, id, ident.pid);
        self.shim = Some(Shim { ident, held: Instant::now(), _handle: handle });
        true
    }

    /// The kernel's view of one instance; `None` when there is none.
    fn instance(&mut self, now: Timestamp, now_ms: u64) -> Option<world::Instance> {
        let life = self.life();
        let status = self.status.as_ref()?;
        let phase = match life {
            Life::Absent => return None,
            // What a shim that is gone has written says nothing of now, but for an end.
            Life::Lost | Life::Starting if status.phase != Phase::Ended => {
                status.seen().map(|_| InstancePhase::Lost)?
            }
            Life::Lost | Life::Starting | Life::Held => status.seen()?,
        };
        let since = match self.since {
            Some((at_ms, since)) if at_ms == status.since_ms => since,
            Some(_) | None => {
                Timestamp(now.0.saturating_sub(now_ms.saturating_sub(status.since_ms)))
            }
        };
        self.since = Some((status.since_ms, since));
        Some(world::Instance {
            phase,
            since,
            port: status.port,
            exits: status.exits,
            streak: status.streak,
            last_exit: status.last_exit.clone(),
            pid: status.process.map(|process| process.pid),
            cpu_milli: self.meter.as_ref().and_then(Meter::rate),
            fence: status.fence,
        })
    }
}
