//! What a worker does for one instance: the next step from what is to what is wanted.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::want;

use super::ask::ask;
use super::book::Life;
use super::{Shared, State, Wanted};
use crate::folder::Folder;
use crate::nursery::Nursery;
use crate::process::unique_id;
use crate::protocol::{Mandate, Order, Reply};
use crate::spec::Spec;
use crate::status::{Phase, Status};

/// How soon a shim that was just started is looked at again.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// How often an instance that must not be stopped yet is asked about again.
const ROUTED_PAUSE: Duration = Duration::from_millis(200);
/// How soon something that went wrong is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How soon a shim that refused an order is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// A shim that has acknowledged a stop reports its end by itself; it is reminded this long after
/// the grace was over.
const STOP_REMINDER: Duration = Duration::from_secs(10);

/// When to look at an instance again; `None`: when something happens.
type Again = Option<Duration>;

/// Everything known of an instance at one moment.
struct Case {
    wanted: Wanted,
    life: Life,
    status: Option<Status>,
    spec: Option<Spec>,
    wait: Duration,
    stop_sent: Option<Instant>,
    /// It is to run once, and an earlier attempt is not gone yet.
    crowded: bool,
}

impl Shared {
    /// The life of a worker.
    pub(super) fn work(&self) {
        while let Some((id, case)) = self.next() {
            let again = self.step(&id, &case).unwrap_or(Some(RETRY));
            let mut state = self.lock();
            // Somebody asked for it while we had it in hand: then it is looked at again at once.
            let asked = state.due.remove(&id);
            self.read(&mut state, &id);
            state.due.remove(&id);
            state.busy.remove(&id);
            let next = asked.or_else(|| Some(Instant::now() + again?));
            if let Some(at) = next {
                state.due.set(id, at);
            }
            self.due.notify_one();
        }
    }

    /// Waits for an instance that is due. `None` when the driver is being dropped.
    fn next(&self) -> Option<(InstanceId, Case)> {
        let mut state = self.lock();
        loop {
            if self.is_closing() {
                return None;
            }
            let now = Instant::now();
            match state.due.first(&state.busy) {
                Some((id, at)) if at <= now => {
                    state.due.remove(&id);
                    if let Some(case) = state.case(&id) {
                        state.busy.insert(id.clone());
                        return Some((id, case));
                    }
                }
                Some((_, at)) => {
                    let wait = self.due.wait_timeout(state, at - now);
                    state = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let wait = self.due.wait(state);
                    state = wait.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn step(&self, id: &InstanceId, case: &Case) -> io::Result<Again> {
        match case.wanted.pool.slots.get(&id.slot).copied() {
            Some(slot) => self.have(id, case, slot),
            None => self.have_not(id, case),
        }
    }

    /// The instance is wanted.
    fn have(&self, id: &InstanceId, case: &Case, slot: want::Slot) -> io::Result<Again> {
        match (case.life, &case.status) {
            // Nobody decides so; it is looked at here too, as the last who can.
            (Life::Absent, _) if case.crowded => Ok(Some(LOOK_SOON)),
            (Life::Absent, _) => {
                if !case.wait.is_zero() {
                    return self.retry_later(id, case.wait);
                }
                let spec = self.spec(id, &case.wanted, slot, unique_id()?);
                self.write_spec(id, &spec)?;
                self.start_shim(id, false)
            }
            (Life::Lost, _) => {
                if !case.wait.is_zero() {
                    return self.retry_later(id, case.wait);
                }
                if let (None, Some(status)) = (&case.spec, &case.status) {
                    let spec = self.spec(id, &case.wanted, slot, status.incarnation.clone());
                    self.write_spec(id, &spec)?;
                }
                self.start_shim(id, false)
            }
            (Life::Held, Some(status)) => self.keep(id, case, slot, status),
            (Life::Held | Life::Starting, _) => Ok(Some(LOOK_SOON)),
        }
    }

    /// The instance is wanted and has a shim: both are brought up to date.
    fn keep(
        &self,
        id: &InstanceId,
        case: &Case,
        slot: want::Slot,
        status: &Status,
    ) -> io::Result<Again> {
        // One that is ending ends; then it is started anew.
        if status.phase == Phase::Stopping {
            return Ok(None);
        }
        let wanted = self.spec(id, &case.wanted, slot, status.incarnation.clone());
        let same = case.spec.as_ref().is_some_and(|spec| spec.same_but_fence(&wanted));
        let stays = status.port == slot.port || status.phase != Phase::Running;
        if !stays {
            return self.stop(id, case, status);
        }
        let noted = case.spec.as_ref().is_some_and(|spec| spec.fence.epoch >= wanted.fence.epoch);
        if same && noted && status.fence.epoch >= wanted.fence.epoch {
            return Ok(None);
        }
        if case.spec.as_ref() != Some(&wanted) {
            self.write_spec(id, &wanted)?;
        }
        let mandate = Mandate { fence: wanted.fence, incarnation: wanted.incarnation };
        let order = if same { Order::Keep(mandate) } else { Order::Reload(mandate) };
        Ok(match ask(&Folder::new(&self.config.home, id), status.shim, order)? {
            Reply::Ok(_) => None,
            // A higher order has been there, or the shim speaks another version: it goes on.
            Reply::Refused(_) => Some(REFUSED_PAUSE),
        })
    }

    /// The instance is not wanted.
    fn have_not(&self, id: &InstanceId, case: &Case) -> io::Result<Again> {
        match (case.life, &case.status) {
            (Life::Absent, _) => Ok(None),
            (Life::Held, Some(status)) => self.stop(id, case, status),
            (Life::Lost, _) => match (case.wanted.routed)(id) {
                Some(false) if case.wait.is_zero() => self.start_shim(id, true),
                Some(false) => self.retry_later(id, case.wait),
                Some(true) | None => Ok(Some(ROUTED_PAUSE)),
            },
            (Life::Held | Life::Starting, _) => Ok(Some(LOOK_SOON)),
        }
    }

    /// Stops an instance, if the edge does not route to it at this moment.
    fn stop(&self, id: &InstanceId, case: &Case, status: &Status) -> io::Result<Again> {
        let grace = case.spec.as_ref().map_or(Duration::ZERO, |spec| spec.stop.grace);
        let reminder = grace.saturating_add(STOP_REMINDER);
        if let Some(waited) = case.stop_sent.map(|sent| sent.elapsed())
            && waited < reminder
        {
            return Ok(Some(reminder.saturating_sub(waited)));
        }
        match (case.wanted.routed)(id) {
            Some(false) => {}
            Some(true) | None => return Ok(Some(ROUTED_PAUSE)),
        }
        let fence = case.wanted.pool.fence;
        let mandate = Mandate { fence, incarnation: status.incarnation.clone() };
        match ask(&Folder::new(&self.config.home, id), status.shim, Order::Stop(mandate))? {
            Reply::Ok(_) => {
                self.lock().book.entry(id).stop_sent = Some(Instant::now());
                Ok(Some(reminder))
            }
            Reply::Refused(_) => Ok(Some(REFUSED_PAUSE)),
        }
    }

    /// Waits, and counts the wait as done, so that the next step acts.
    fn retry_later(&self, id: &InstanceId, wait: Duration) -> io::Result<Again> {
        self.lock().book.entry(id).waited = true;
        Ok(Some(wait))
    }

    fn spec(
        &self,
        id: &InstanceId,
        wanted: &Wanted,
        slot: want::Slot,
        incarnation: String,
    ) -> Spec {
        let folder = Folder::new(&self.config.home, id);
        Spec::new(&wanted.pool, id, slot, incarnation, &self.config.env, &folder)
    }

    fn write_spec(&self, id: &InstanceId, spec: &Spec) -> io::Result<()> {
        let folder = Folder::new(&self.config.home, id);
        folder.create()?;
        folder.write_spec(spec)?;
        self.lock().book.entry(id).spec = Some(spec.clone());
        Ok(())
    }

    /// Starts the shim of an instance; `end`: to take over what runs, and end it.
    fn start_shim(&self, id: &InstanceId, end: bool) -> io::Result<Again> {
        // A nursery that does not do it is not asked twice; the next start makes another.
        let pid = match self.bear(id, end) {
            Ok(pid) => pid,
            Err(_broken) => self.spawn_shim(id, end)?,
        };
        let mut state = self.lock();
        state.book.entry(id).waited = false;
        state.book.started(id, pid, &self.watch);
        Ok(Some(LOOK_SOON))
    }

    fn bear(&self, id: &InstanceId, end: bool) -> io::Result<u32> {
        let mut nursery = self.nursery.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = match nursery.take() {
            Some(kept) => kept,
            None => Nursery::start(&self.config.shim, &self.config.home)?,
        };
        let pid = kept.bear(id, end)?;
        *nursery = Some(kept);
        Ok(pid)
    }

    /// Starts the shim as a program of its own.
    fn spawn_shim(&self, id: &InstanceId, end: bool) -> io::Result<u32> {
        let (program, first) = self
            .config
            .shim
            .split_first()
            .ok_or_else(|| io::Error::other("no command starts a shim"))?;
        let mut command = Command::new(program);
        command.args(first).arg("--home").arg(&self.config.home);
        command.arg("--instance").arg(id.to_string());
        command.args(end.then_some(OsStr::new("--end")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its environment is nobody's business, and a marker in ours would be taken for its own.
        command.env_clear().current_dir("/");
        // It is reaped by the thread that watches it.
        Ok(command.spawn()?.id())
    }
}

impl State {
    /// Everything known of an instance, if its pool is wanted in some way.
    fn case(&mut self, id: &InstanceId) -> Option<Case> {
        let wanted = self.wants.get(&id.pool)?.clone();
        let crowded = wanted.pool.workload.once && self.book.is_crowded(id, &self.busy);
        let entry = self.book.entry(id);
        Some(Case {
            wanted,
            life: entry.life(),
            status: entry.status.clone(),
            spec: entry.spec.clone(),
            wait: entry.retry_after(),
            stop_sent: entry.stop_sent,
            crowded,
        })
    }
}
