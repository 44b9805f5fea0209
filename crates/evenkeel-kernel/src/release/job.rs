//! The jobs of a release: how far each of them is.
//!
//! A job is kept like a service that nobody sends requests to: its content is a revision, and each
//! attempt is an instance of it, with a slot of its own. So pools, ports, logs and the sweep know
//! nothing new.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::judge::phase_text;
use super::state::{Kept, Phase, Release, Service, State};
use super::why::Wait;
use crate::model::{self, JobWhen, PoolId, RevisionNumber, ServiceName};
use crate::time::Timestamp;
use crate::world::{InstancePhase, Platform, World};

/// One job of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What runs.
    pub revision: RevisionNumber,
    /// How many attempts have begun.
    pub attempts: u32,
    /// How far it is.
    pub stage: Attempt,
    /// Why the last attempt failed, if one has.
    pub last_failure: Option<String>,
}

/// How far a job is. What is written here once stays, because the instance that showed it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// None is under way.
    Waiting,
    /// This one is.
    Running {
        /// Its slot in the pool of the job's revision.
        slot: u32,
        /// JobWhen it was decided.
        since: Timestamp,
    },
    /// One has ended well; there will be no other.
    Done,
    /// The last that is allowed has failed.
    Failed,
}

impl Run {
    /// One that has not begun.
    pub(super) fn new(revision: RevisionNumber) -> Self {
        Self { revision, attempts: 0, stage: Attempt::Waiting, last_failure: None }
    }

    /// `attempt 2 of 3`; nothing of a job that is not tried again.
    pub(super) fn attempt(&self, job: &model::Job) -> String {
        match job.retries {
            0 => String::new(),
            retries => format!(" (attempt {} of {})", self.attempts, u64::from(retries) + 1),
        }
    }
}

impl Release {
    /// The jobs that run `when`, in the order in which they do.
    pub fn jobs_of(&self, when: JobWhen) -> impl Iterator<Item = (&ServiceName, &Run)> {
        let runs = self
            .job_order
            .iter()
            .filter(move |name| self.wanted.jobs.get(*name).is_some_and(|job| job.when == when));
        runs.filter_map(|name| Some((name, self.jobs.get(name)?)))
    }

    /// Whether all jobs that run `when` are done.
    pub(super) fn jobs_done(&self, when: JobWhen) -> bool {
        self.jobs_of(when).all(|(_, run)| run.stage == Attempt::Done)
    }

    /// Whether an attempt is under way. It has a time limit of its own.
    pub(super) fn runs_a_job(&self) -> bool {
        self.jobs.values().any(|run| matches!(run.stage, Attempt::Running { .. }))
    }

    /// Why the release must be taken back: a job of it has failed.
    pub(super) fn job_failure(&self) -> Option<String> {
        self.jobs.iter().find(|(_, run)| run.stage == Attempt::Failed).map(|(name, run)| {
            let reason = run.last_failure.as_deref().unwrap_or("nobody knows why");
            match run.attempts {
                0 | 1 => format!("job {name} failed: {reason}"),
                attempts => format!("job {name} failed {attempts} times, last: {reason}"),
            }
        })
    }

    /// Lets jobs that have failed be tried again, as often as before.
    pub(super) fn forgive_jobs(&mut self) {
        for run in self.jobs.values_mut().filter(|run| run.stage == Attempt::Failed) {
            (run.stage, run.attempts) = (Attempt::Waiting, 0);
        }
    }

    /// The new services that jobs need before anything else starts: what they use, and what that
    /// uses.
    pub(super) fn needed_by_jobs(&self) -> BTreeSet<ServiceName> {
        let jobs = self.jobs_of(JobWhen::Before).filter(|(_, run)| run.stage != Attempt::Done);
        let described = jobs.filter_map(|(name, _)| self.wanted.jobs.get(name));
        let mut open: Vec<&ServiceName> = described.flat_map(|job| &job.workload.uses).collect();
        let mut found = BTreeSet::new();
        while let Some(name) = open.pop() {
            let is_new = self.rollouts.get(name).is_some_and(|rollout| rollout.from.is_none());
            if is_new && found.insert(name.clone()) {
                let service = self.wanted.services.get(name);
                open.extend(service.into_iter().flat_map(|service| &service.workload.uses));
            }
        }
        found
    }
}

impl State {
    /// Whether nothing of the job runs or is about to, of whichever revision: only then may it be
    /// started.
    pub(super) fn job_is_gone(&self, name: &ServiceName, platform: &Platform) -> bool {
        let Some(service) = self.services.get(name) else { return true };
        service.revisions.iter().filter(|(_, kept)| kept.is_job()).all(|(revision, kept)| {
            let pool = PoolId::new(name, *revision);
            kept.slots.is_empty() && !platform.instances.keys().any(|id| id.pool == pool)
        })
    }

    /// The revision of the job of this name that runs now, if one does.
    pub(super) fn running_job(&self, name: &ServiceName) -> Option<RevisionNumber> {
        let run = self.forward()?.jobs.get(name)?;
        matches!(run.stage, Attempt::Running { .. }).then_some(run.revision)
    }
}

impl Service {
    /// The revisions that answer requests or run on; a job that had the same name is none of them.
    pub(super) fn serving(&self) -> impl Iterator<Item = (&RevisionNumber, &Kept)> {
        self.revisions.iter().filter(|(_, kept)| !kept.is_job())
    }
}

impl Kept {
    /// Attempts of a job whose output is kept: each release makes some, of the same revision.
    pub const ATTEMPTS_MAX: u32 = 20;

    /// Whether what an instance has left behind is kept.
    #[must_use]
    pub fn remembers(&self, slot: u32) -> bool {
        !self.is_job() || slot.saturating_add(Self::ATTEMPTS_MAX) >= self.next_slot
    }

    /// Whether it is what a job runs.
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.revision.workload.once
    }
}

impl State {
    /// What is waited for because of jobs: the one that runs now, or is to run next.
    pub(super) fn job_waits(&self, release: &Release, world: &World, now: Timestamp) -> Vec<Wait> {
        let when = match release.phase {
            Phase::Expanding => JobWhen::Before,
            Phase::Baking => JobWhen::After,
            Phase::Shifting { .. } | Phase::Contracting | Phase::TurningBack(_) => {
                return Vec::new();
            }
        };
        let next = release.jobs_of(when).find(|(_, run)| run.stage != Attempt::Done);
        let job = next.and_then(|(name, run)| Some((name, run, release.wanted.jobs.get(name)?)));
        let Some((name, run, job)) = job else { return Vec::new() };
        let (what, since, until) = match run.stage {
            Attempt::Running { slot, since } => {
                let id = PoolId::new(name, run.revision).instance(slot);
                let seen = world.platform.known().and_then(|it| it.instances.get(&id));
                let state = match seen {
                    Some(instance) if instance.phase == InstancePhase::Running => String::new(),
                    Some(instance) => format!(": {}", phase_text(instance.phase)),
                    None => ": it starts".to_owned(),
                };
                let what = format!("job {name} {} runs{}{state}", run.revision, run.attempt(job));
                (what, since, Some((since.after(job.timeout), "it is stopped".to_owned())))
            }
            Attempt::Waiting | Attempt::Done | Attempt::Failed => {
                let gone = world.platform.known().is_some_and(|it| self.job_is_gone(name, it));
                let what = match gone {
                    true => format!("job {name} can start once what it uses answers"),
                    false => format!("job {name} can start once its last attempt is gone"),
                };
                (what, now.min(release.progress), None)
            }
        };
        vec![Wait {
            what,
            since,
            until,
            last_error: run.last_failure.clone(),
            unblock: format!("`evenkeel logs {name}` shows what it says"),
        }]
    }
}
