//! Jobs in the simulated world: how scenarios describe them, how they run on the platform, and what
//! must hold of them.

use std::collections::BTreeSet;
use std::time::Duration;

use evenkeel_kernel::model::{self, InstanceId, Job, PoolId, ServiceName, Stack, Workload};
use evenkeel_kernel::release::{Attempt, Phase, Release, State};
use evenkeel_kernel::world::InstancePhase;

use crate::invariants::{Checked, broken};
use crate::platform::Platform;
use crate::rng::Rng;
use crate::scenario::{BEHAVIOUR, Behaviour};
use crate::simulation::{Event, Simulation};

/// The jobs that a scenario may have.
const NAMES: [&str; 3] = ["a-job", "fill", "migrate"];
/// One that ends by itself does so within this time; with what faults take it is within the time
/// limit of all of them.
const TAKES_MAX_MS: u64 = 2_000;

/// Adds jobs to the first stack of some scenarios.
pub(crate) fn add(stack: &mut Stack, rng: &mut Rng) {
    if rng.chance(400) {
        for name in NAMES {
            if rng.chance(450) {
                add_one(stack, name, rng);
            }
        }
    }
}

fn add_one(stack: &mut Stack, name: &str, rng: &mut Rng) {
    let services = stack.services.keys().filter(|_| rng.chance(300));
    let uses: BTreeSet<ServiceName> = services.cloned().collect();
    let Some(like) = stack.services.values().next() else { return };
    let workload = Workload {
        run: vec![format!("./{name}")],
        uses,
        exclusive: false,
        once: true,
        ..like.workload.clone()
    };
    let job = Job {
        workload,
        follows: BTreeSet::new(),
        when: if rng.chance(650) { model::JobWhen::Before } else { model::JobWhen::After },
        timeout: Duration::from_secs(18),
        retries: u32::try_from(rng.below(3)).unwrap_or(0),
        on_rollback: rng.chance(150),
    };
    stack.jobs.insert(name.parse().expect("a name"), job);
}

/// Changes some of them, as people do.
pub(crate) fn change(stack: &mut Stack, version: u64, rng: &mut Rng) {
    let names: Vec<ServiceName> = stack.services.keys().cloned().collect();
    for job in stack.jobs.values_mut() {
        // What was removed is used no more.
        job.workload.uses.retain(|used| names.contains(used));
        if !rng.chance(350) {
            continue;
        }
        let behaviour = match rng.below(6) {
            0 => Behaviour::CrashLoop,
            1 => Behaviour::NeverHealthy,
            _ => Behaviour::Good,
        };
        job.workload.env.insert("VERSION".to_owned(), format!("job {version}"));
        job.workload.env.insert(BEHAVIOUR.to_owned(), behaviour.name().to_owned());
    }
    if !stack.jobs.is_empty() && rng.chance(100) {
        stack.jobs.pop_first();
    }
}

impl Simulation {
    /// Begins the job of this instance, at most once: what has begun is written down.
    pub(crate) fn begin_job(&mut self, id: &InstanceId) {
        let first = self.platform.begun.insert(id.clone());
        let takes = self.instances.between(100, TAKES_MAX_MS);
        let Some(it) = self.platform.procs.get(id) else { return };
        let (life, never) = (it.life, it.behaviour == Behaviour::NeverHealthy);
        if !first {
            self.end_job(id, life, false);
        } else if !never {
            self.after(takes, Event::Exit(id.clone(), life));
        }
    }

    /// The process of a job ends. Without its shim nobody sees how.
    pub(crate) fn end_job(&mut self, id: &InstanceId, life: u32, well: bool) {
        let now = self.now;
        let Some(it) = self.platform.procs.get_mut(id).filter(|it| it.life == life) else { return };
        if !matches!(it.phase, InstancePhase::Running | InstancePhase::Lost) {
            return;
        }
        let seen = it.phase == InstancePhase::Running;
        let well = well && seen && it.behaviour == Behaviour::Good;
        it.end(now, InstancePhase::Ended { well });
        it.exits = 1;
        self.say(|| format!("{id} ends, well: {well}"));
    }
}

/// A state became durable: what it says of jobs is so, and nothing of them is begun too early or
/// beside another.
pub(crate) fn committed(
    before: &State,
    after: &State,
    platform: &Platform,
    settled: u64,
) -> Checked {
    for (name, service) in &after.services {
        let jobs = service.revisions.iter().filter(|(_, kept)| kept.is_job());
        let slots: Vec<InstanceId> = jobs
            .flat_map(|(revision, kept)| {
                let pool = PoolId::new(name, *revision);
                kept.slots.keys().map(move |number| pool.instance(*number))
            })
            .collect();
        let is_old = |id: &InstanceId| has_slot(before, id);
        if slots.iter().all(is_old) {
            continue;
        }
        if slots.len() > 1 {
            return broken("jobs-run-alone", format!("{slots:?} at the same time"));
        }
        // One that started while it was being dropped may not have been seen yet.
        let other = platform.procs.iter().find(|(id, it)| {
            let same = id.pool.service == *name && it.once && !it.foreign;
            same && !slots.contains(id) && it.born < settled
        });
        if let Some((id, _)) = other {
            return broken("jobs-run-alone", format!("{slots:?} begins while {id} is there"));
        }
    }
    let Some(release) = &after.release else { return Ok(()) };
    done_is_seen(before, release, platform)?;
    nothing_too_early(after, release)
}

fn has_slot(state: &State, id: &InstanceId) -> bool {
    let service = state.services.get(&id.pool.service);
    let kept = service.and_then(|service| service.revisions.get(&id.pool.revision));
    kept.is_some_and(|kept| kept.slots.contains_key(&id.slot))
}

/// A job that is said to be done has ended well, and is not begun again.
fn done_is_seen(before: &State, release: &Release, platform: &Platform) -> Checked {
    let earlier = before.release.as_ref().filter(|it| it.id == release.id);
    for (name, run) in &release.jobs {
        let was = earlier.and_then(|it| it.jobs.get(name)).map(|run| run.stage);
        match (was, run.stage) {
            (Some(Attempt::Running { slot, .. }), Attempt::Done) => {
                let id = PoolId::new(name, run.revision).instance(slot);
                let truth = platform.procs.get(&id).map(|it| it.phase);
                // An operator may have removed it meanwhile.
                if truth.is_some_and(|phase| phase != InstancePhase::Ended { well: true }) {
                    return broken("done-is-seen", format!("{id} is done, and is {truth:?}"));
                }
            }
            (Some(Attempt::Done), now) if now != Attempt::Done => {
                return broken("jobs-run-once", format!("{name} is begun again: {now:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Nothing of a new revision is there before the jobs that come before it are done.
fn nothing_too_early(after: &State, release: &Release) -> Checked {
    let undone =
        release.jobs_of(model::JobWhen::Before).find(|(_, run)| run.stage != Attempt::Done);
    let Some((job, _)) = undone.filter(|_| release.phase.is_forward()) else { return Ok(()) };
    if release.phase != Phase::Expanding {
        let phase = release.phase.name();
        return broken("jobs-come-before", format!("{phase} while {job} is not done"));
    }
    for (name, rollout) in release.rollouts.iter().filter(|(_, it)| it.from.is_some()) {
        let service = &after.services[name];
        let active = service.revisions.get(&rollout.to).map_or(0, |kept| kept.active().count());
        if active > 0 || service.weight(rollout.to).0 > 0 {
            let to = rollout.to;
            return broken(
                "jobs-come-before",
                format!("{name} {to} is there before {job} is done"),
            );
        }
    }
    Ok(())
}

/// Whether a job that the release runs can never end well.
pub(crate) fn has_bad(state: &State, release: &Release) -> bool {
    release.jobs.iter().any(|(name, run)| {
        let kept = state.services.get(name).and_then(|it| it.revisions.get(&run.revision));
        kept.is_some_and(|kept| Behaviour::of(&kept.revision.workload) != Behaviour::Good)
    })
}
