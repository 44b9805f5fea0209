//! The start of a release: its plan, its revisions, its rollouts. Nothing runs yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{self, Revision, RevisionNumber, ServiceName, Strategy, Workload};
use crate::plan::{followed, following, jobs, moving};
use crate::release::analyse::Watched;
use crate::release::hotfix;
use crate::release::job::Run;
use crate::release::ledger::Ledger;
use crate::release::schema::Migration;
use crate::release::state::{
    Bake, Kept, Kind, Note, Phase, Queued, Release, Rollout, Service, State,
};
use crate::time::Timestamp;
use crate::world::World;

impl State {
    /// Starts a release towards `wanted`.
    pub(in crate::release) fn start(
        &mut self,
        change: Queued,
        world: &World,
        now: Timestamp,
    ) -> Vec<Note> {
        let Queued { id, kind, by, mut wanted, hotfix, force: _ } = change;
        // It may have waited while its services scaled.
        self.keep_sizes(Arc::make_mut(&mut wanted));
        self.attach_databases(Arc::make_mut(&mut wanted));
        let mut from = self.now(&wanted);
        from.leads_back = kind == Kind::Rollback;
        let (plan, _) = hotfix::planned(&from, &wanted, hotfix.is_some());
        let (order, job_order) = (moving(&from, &wanted), jobs(&from, &wanted));
        let mut follow: BTreeMap<ServiceName, BTreeSet<ServiceName>> = order
            .iter()
            .map(|name| (name.clone(), followed(&from, &wanted, name)))
            .filter(|(_, callers)| !callers.is_empty())
            .collect();
        let numbers: Vec<RevisionNumber> = order.iter().map(|name| from.next[name]).collect();
        let mut used = self.ports_used();
        let mut rollouts = BTreeMap::new();
        for (name, number) in order.iter().zip(numbers) {
            let described = &wanted.services[name];
            if !self.services.contains_key(name) {
                let Some(port) = self.ports.take(&mut used) else { continue };
                self.services.insert(name.clone(), Service::new(port, now));
            }
            let Some(service) = self.services.get_mut(name) else { continue };
            service.slow = None;
            if service.stable.is_some() {
                // What is left must be able to take everything back, also one that slept.
                service.replicas = service.replicas.max(1);
            }
            if kind != Kind::Rollback && hotfix.is_none() {
                service.released = Some(now);
            }
            service.keep(number, &described.workload);
            if let Some(kept) = service.revisions.get_mut(&number) {
                kept.open_doors(&wanted, &mut self.ports, &mut used, now);
            }
            let mut rollout = rollout(kind, service.stable, number, described);
            if hotfix.is_some() && service.stable.is_some() {
                rollout.strategy = hotfix::strategy(described);
            }
            if let Some(callers) = follow.remove(name) {
                rollout.strategy = following(&rollout.strategy, &wanted, name, &callers);
                rollout.follows = true;
            }
            rollouts.insert(name.clone(), rollout);
        }
        let mut jobs = BTreeMap::new();
        for name in &job_order {
            let number = self.keep_job(name, &wanted.jobs[name].workload, &mut used, now);
            jobs.insert(name.clone(), Run::new(number));
        }
        let schemas = wanted.databases.iter().filter(|(_, it)| it.change.is_some());
        let schemas = schemas.map(|(name, _)| (name.clone(), Migration::default())).collect();
        let mut release = Release {
            id,
            kind,
            by,
            started: now,
            wanted,
            plan: Arc::new(plan),
            rollouts,
            order,
            phase: Phase::Expanding,
            since: now,
            progress: now,
            bake: Bake::default(),
            asked_before: 0,
            paused: None,
            blind: None,
            hurried: false,
            gate: None,
            approvals: Vec::new(),
            hotfix,
            ledger: Ledger::default(),
            jobs,
            job_order,
            schemas,
        };
        release.ledger = Ledger::open(release.pools(), world.edge.known());
        let text = format!("release {id} started by {}: {}", release.by, summary(&release));
        let mut notes = vec![Note { release: Some(id), kind: "release.started", text }];
        if let Some(reason) = &release.hotfix {
            let text = format!("release {id} is a HOTFIX by {}: {reason}", release.by);
            notes.push(Note { release: Some(id), kind: "release.hotfix", text });
        }
        self.release = Some(Arc::new(release));
        notes
    }

    /// Keeps what a job runs. Without a free port it is not kept, and never starts.
    fn keep_job(
        &mut self,
        name: &ServiceName,
        workload: &Workload,
        used: &mut BTreeSet<u16>,
        now: Timestamp,
    ) -> RevisionNumber {
        if !self.services.contains_key(name)
            && let Some(port) = self.ports.take(used)
        {
            self.services.insert(name.clone(), Service::new(port, now));
        }
        let Some(service) = self.services.get_mut(name) else { return RevisionNumber(1) };
        let number = service.find(&workload.digest());
        let number = number.unwrap_or(service.last_revision.next());
        service.keep(number, workload);
        number
    }
}

impl Service {
    /// Keeps a revision under `number`, if it is not kept already.
    fn keep(&mut self, number: RevisionNumber, workload: &Workload) {
        self.last_revision = self.last_revision.max(number);
        self.revisions.entry(number).or_insert_with(|| {
            let (digest, workload) = (workload.digest(), Arc::new(workload.clone()));
            let revision = Revision { number, digest, workload };
            Kept { revision, next_slot: 1, slots: BTreeMap::new(), doors: BTreeMap::new() }
        });
    }
}

/// The way of one service from its `stable` revision to the one it is described by.
fn rollout(
    kind: Kind,
    stable: Option<RevisionNumber>,
    to: RevisionNumber,
    described: &model::Service,
) -> Rollout {
    let strategy = match (kind, stable) {
        (Kind::Apply | Kind::Restart, Some(_)) => described.rollout.strategy.clone(),
        // What replaces nothing, or returns to what is known, has no steps to take.
        (Kind::Rollback, _) | (_, None) => without_steps(&described.rollout.strategy),
    };
    Rollout {
        from: stable,
        to,
        strategy,
        replicas: described.replicas,
        unwell: None,
        flip: false,
        watched: Watched::default(),
        checks: BTreeMap::new(),
        judged: Vec::new(),
        follows: false,
    }
}

/// A way back takes no steps: what is tried already need not be tried again.
fn without_steps(strategy: &Strategy) -> Strategy {
    match strategy {
        Strategy::Rolling { .. } => strategy.clone(),
        Strategy::BlueGreen { .. } | Strategy::Canary { .. } => {
            Strategy::BlueGreen { preview: None }
        }
    }
}

fn summary(release: &Release) -> String {
    let moved = release.order.iter().filter_map(|name| {
        let rollout = release.rollouts.get(name)?;
        Some(match rollout.from {
            Some(from) => format!("{name} {from} to {}", rollout.to),
            None => format!("{name} {}", rollout.to),
        })
    });
    let moved: Vec<String> = moved.collect();
    match (moved.is_empty(), release.job_order.is_empty()) {
        (false, _) => moved.join(", "),
        (true, true) => "no new revision".to_owned(),
        (true, false) => {
            let jobs: Vec<String> = release.job_order.iter().map(ToString::to_string).collect();
            format!("no new revision, but a run of {}", jobs.join(", "))
        }
    }
}
