//! Jobs in a plan: which of them a release runs, in which order, and what is said of them.

use std::collections::BTreeMap;

use super::order::ordered;
use super::{Change, ChangeAction, Now, Plan, fields, moving};
use crate::model::{Job, JobWhen, ServiceName, Stack, Workload};

/// The jobs that a release from what is there `now` to `wanted` runs, in the order in which they
/// run: all of them if it moves a service to another content, else those that it changes. A restart
/// brings nothing that a job would have to be done for.
#[must_use]
pub fn jobs(now: &Now<'_>, wanted: &Stack) -> Vec<ServiceName> {
    let moves = moving(now, wanted).iter().any(|name| brings_content(now, wanted, name));
    let runs = |name: &ServiceName| {
        let job = &wanted.jobs[name];
        let before = now.stack.jobs.get(name);
        let changed = before.is_none_or(|before| before.workload != job.workload);
        (moves || changed) && (job.on_rollback || !now.leads_back)
    };
    let mut all: Vec<ServiceName> = order(&wanted.jobs).into_iter().filter(runs).collect();
    all.sort_by_key(|name| wanted.jobs[name].when);
    all
}

/// Whether the service becomes anything else than a fresh instance of the same.
fn brings_content(now: &Now<'_>, wanted: &Stack, name: &ServiceName) -> bool {
    let described = |stack: &Stack| {
        let service = stack.services.get(name)?;
        Some(Workload { restarts: 0, ..service.workload.clone() })
    };
    described(now.stack) != described(wanted)
}

/// All jobs, each after those that it follows, else by name.
fn order(jobs: &BTreeMap<ServiceName, Job>) -> Vec<ServiceName> {
    let follows = |job: &Job| job.follows.clone();
    ordered(&jobs.iter().map(|(name, job)| (name, follows(job))).collect())
}

/// Says what changes in jobs, and which of them run.
pub(super) fn describe(now: &Now<'_>, wanted: &Stack, plan: &mut Plan) {
    for (name, job) in &wanted.jobs {
        let before = now.stack.jobs.get(name);
        let fields = fields::of_job(before, job);
        let action = match before {
            Some(_) if fields.is_empty() => continue,
            Some(_) => ChangeAction::Change,
            None => ChangeAction::Create,
        };
        let component = format!("job.{name}");
        plan.changes.push(Change { component, action, revision: None, fields });
    }
    for name in now.stack.jobs.keys().filter(|name| !wanted.jobs.contains_key(*name)) {
        plan.changes.push(Change {
            component: format!("job.{name}"),
            action: ChangeAction::Remove,
            revision: None,
            fields: Vec::new(),
        });
        plan.destroys.push(format!("job {name}"));
    }
    let runs = jobs(now, wanted);
    let of = |when| runs.iter().filter(move |name| wanted.jobs[*name].when == when);
    let first =
        of(JobWhen::Before).map(|name| format!("run job {name} before anything new starts"));
    plan.expand.splice(0..0, first.collect::<Vec<_>>());
    plan.shift
        .extend(of(JobWhen::After).map(|it| format!("run job {it} after all traffic has moved")));
}
