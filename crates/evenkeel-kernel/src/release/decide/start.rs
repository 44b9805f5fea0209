//! The start of a release: its plan, its revisions, its rollouts. Nothing runs yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{self, Revision, RevisionNumber, Strategy, Workload};
use crate::plan::moving;
use crate::release::analyse::Watched;
use crate::release::hotfix;
use crate::release::ledger::Ledger;
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
        let Queued { id, kind, by, mut wanted, hotfix } = change;
        // It may have waited while its services scaled.
        self.keep_sizes(Arc::make_mut(&mut wanted));
        let from = self.now(&wanted);
        let (plan, _) = hotfix::planned(&from, &wanted, hotfix.is_some());
        let order = moving(&from, &wanted);
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
            if kind != Kind::Rollback && hotfix.is_none() {
                service.released = Some(now);
            }
            service.keep(number, &described.workload);
            let mut rollout = rollout(kind, service.stable, number, described);
            if hotfix.is_some() && service.stable.is_some() {
                rollout.strategy = hotfix::strategy(described);
            }
            rollouts.insert(name.clone(), rollout);
        }
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
}

impl Service {
    /// Keeps a revision under `number`, if it is not kept already.
    fn keep(&mut self, number: RevisionNumber, workload: &Workload) {
        self.last_revision = self.last_revision.max(number);
        self.revisions.entry(number).or_insert_with(|| {
            let (digest, workload) = (workload.digest(), Arc::new(workload.clone()));
            let revision = Revision { number, digest, workload };
            Kept { revision, next_slot: 1, slots: BTreeMap::new() }
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
    match moved.is_empty() {
        true => "no new revision".to_owned(),
        false => moved.join(", "),
    }
}
