//! Databases in the simulated world: who uses one, how its schema changes, and what must hold: code
//! finds the shape that it reads for as long as it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_kernel::model::{
    Database, DatabaseName, KeptSecret, SchemaChange, SecretSource, Stack, Weight,
};
use evenkeel_kernel::release::State;
use evenkeel_kernel::want;
use evenkeel_kernel::world::{InstancePhase, Schema, SchemaTarget};

use crate::invariants::{Checked, JUST_STARTED_MS, broken};
use crate::platform::Platform;
use crate::rng::{Purpose, Rng};

/// The one that scenarios may have.
const NAME: &str = "main";
/// The longest that a step of a schema takes.
const TAKES_MAX_MS: u64 = 2_500;

/// Adds a database to the first stack of some scenarios.
pub(crate) fn add(stack: &mut Stack, rng: &mut Rng) {
    if !rng.chance(350) {
        return;
    }
    let url = KeptSecret { from: SecretSource::Env("DATABASE".to_owned()), digest: None };
    let schema = Database::SCHEMA.to_owned();
    let migrations = Some("/migrations".to_owned());
    let (owner, desired) = (None, None);
    let database = Database { url, owner, schema, migrations, desired, views: None, change: None };
    stack.databases.insert(name(), database);
    uses(stack, rng);
}

fn uses(stack: &mut Stack, rng: &mut Rng) {
    let Some(path) = stack.databases.get(&name()).map(Database::search_path) else { return };
    for (_, workload) in stack.workloads_mut() {
        if rng.chance(600) {
            workload.databases.insert(name(), path.clone());
        }
    }
}

/// Changes its schema, as people do. A migration belongs to the file it was written with.
pub(crate) fn change(stack: &mut Stack, version: u64, rng: &mut Rng) {
    let changes = rng.chance(600);
    let loses = rng.chance(200);
    let Some(database) = stack.databases.get_mut(&name()) else { return };
    let revision = u32::try_from(version + 1).unwrap_or(u32::MAX);
    database.change = changes.then(|| {
        Arc::new(SchemaChange {
            revision,
            views: format!("public_r{revision}"),
            files: vec![format!("{revision}.sql")],
            script: "".into(),
            expand: Vec::new(),
            contract: Vec::new(),
            loses: if loses { vec!["orders.name".to_owned()] } else { Vec::new() },
            hazards: Vec::new(),
        })
    });
}

fn name() -> DatabaseName {
    NAME.parse().expect("a name")
}

/// What is really there, and what is being done about it.
#[derive(Debug)]
pub(crate) struct Databases {
    rng: Rng,
    /// The revisions of the schema that can be read. Nought is the tables themselves.
    shapes: BTreeSet<u32>,
    /// Those that are filled and checked.
    ready: BTreeSet<u32>,
    /// What was reached last for each revision.
    done: BTreeMap<u32, SchemaTarget>,
    /// When a controller will have done what it wants.
    under_way: BTreeMap<(usize, u32, SchemaTarget), u64>,
}

impl Databases {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, Purpose::Databases),
            shapes: [0].into(),
            ready: [0].into(),
            done: BTreeMap::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// Lets a controller do what its durable state wants. Only one holds the database's lock.
    pub(crate) fn obey(
        &mut self,
        controller: usize,
        state: &State,
        platform: &Platform,
        now: u64,
    ) -> Checked {
        for want in state.wanted_schemas() {
            let want::Schema { change, target: Some(target), paused, .. } = want else { continue };
            if paused && target == SchemaTarget::Ready {
                continue;
            }
            let revision = change.revision;
            // A thread does one thing after the other; what came before it is done or dropped.
            self.under_way.retain(|key, _| key.1 == revision && key.2 == target);
            if self.done.get(&revision) == Some(&target) {
                continue;
            }
            let takes = self.rng.below(TAKES_MAX_MS);
            let at = self.under_way.entry((controller, revision, target)).or_insert(now + takes);
            if *at <= now {
                self.reach(revision, target, state, platform, now)?;
            }
        }
        Ok(())
    }

    /// What is seen of databases by whoever wants something of them.
    pub(crate) fn seen(&self, state: &State) -> BTreeMap<DatabaseName, Schema> {
        let wanted = state.wanted_schemas().into_iter();
        let seen = wanted.map(|it| {
            let revision = it.change.revision;
            let done = self.done.get(&revision).copied();
            (it.database, Schema { revision, done, ..Schema::default() })
        });
        seen.collect()
    }

    fn reach(
        &mut self,
        revision: u32,
        target: SchemaTarget,
        state: &State,
        platform: &Platform,
        now: u64,
    ) -> Checked {
        match target {
            SchemaTarget::Ready => {
                self.shapes.insert(revision);
                self.ready.insert(revision);
            }
            SchemaTarget::Contracted => self.shapes = [revision].into(),
            SchemaTarget::Undone => {
                self.shapes.remove(&revision);
                self.ready.remove(&revision);
            }
        }
        self.done.insert(revision, target);
        self.reads_what_is_there(state, platform, now)
    }

    /// Nothing runs that reads a shape which is gone.
    fn reads_what_is_there(&self, state: &State, platform: &Platform, now: u64) -> Checked {
        for (id, it) in &platform.procs {
            let runs = matches!(it.phase, InstancePhase::Running | InstancePhase::Stopping);
            let service = state.services.get(&id.pool.service);
            let kept = service.and_then(|it| it.revisions.get(&id.pool.revision));
            // One that starts late is stopped again at once.
            let settled = now >= it.born + JUST_STARTED_MS;
            let (Some(kept), true) = (kept, runs && settled && !it.foreign) else { continue };
            for path in kept.revision.workload.databases.values() {
                if !self.shapes.contains(&revision_of(path)) {
                    let there: Vec<String> = self.shapes.iter().map(u32::to_string).collect();
                    let there = there.join(", ");
                    return broken(
                        "reads-what-is-there",
                        format!("{id} reads {path}, and there is revision {there}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// No traffic reaches code whose shape is not whole.
    pub(crate) fn committed(&self, after: &State) -> Checked {
        for (name, service) in &after.services {
            for (revision, kept) in &service.revisions {
                if service.split.get(revision).is_none_or(|it| *it == Weight::NONE) {
                    continue;
                }
                for path in kept.revision.workload.databases.values() {
                    if !self.ready.contains(&revision_of(path)) {
                        return broken(
                            "whole-before-traffic",
                            format!("{name} {revision} has traffic, and {path} is not filled"),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// The revision of the schema that a search path leads to.
fn revision_of(path: &str) -> u32 {
    let first = path.split(',').next().unwrap_or_default();
    first.rsplit_once("_r").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}
