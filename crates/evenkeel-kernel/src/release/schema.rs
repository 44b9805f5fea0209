//! Schemas of databases that a release changes: how far each is to be, and what is waited for.
//!
//! The new shape is whole before any code that needs it starts, and the old shape goes when all code
//! that needs it is gone. On the way back the new shape goes
//! when the code that needs it is gone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::state::{Phase, Release, State};
use super::why::Wait;
use crate::model::{
    Database, DatabaseName, KeptSecret, SchemaChange, ServiceName, Stack, Workload,
};
use crate::time::human;
use crate::want;
use crate::world::{Doing, Filling, Schema, SchemaTarget, World};

/// What helps where the database refuses to take the old shape away.
const IN_THE_WAY: &str = "what it names has to go; it is tried again by itself, and until then both \
                          shapes are there";

/// What can be done about what passes by itself.
const STUCK: &str = "it is tried again until it works; `SELECT pg_terminate_backend(PID)` in the \
                     database ends a process that is in the way";

/// The change of one database's schema, as far as it is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Where it is to be.
    pub target: Option<SchemaTarget>,
    /// How much of the way there was done when it was last looked at, in thousandths.
    pub permille: u16,
}

/// How the change of one database's schema stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaping<'a> {
    /// The database.
    pub database: &'a DatabaseName,
    /// The number of the schema's new revision.
    pub revision: u32,
    /// `waiting`, `paused`, what is being done or the last target that was reached, in one word.
    pub stage: &'static str,
    /// How far rows have their new values, while they get them.
    pub filling: Option<Filling>,
    /// Why it does not get on.
    pub trouble: Option<&'a str>,
}

impl fmt::Display for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, of, permille, rate, left } = self;
        write!(f, "{rows} of about {of} rows, {} %", permille / 10)?;
        if let Some(rate) = rate {
            write!(f, ", {rate} rows a second")?;
        }
        match left {
            Some(left) => write!(f, ", about {} left", human(*left)),
            None => Ok(()),
        }
    }
}

impl Release {
    /// The databases whose schema it changes, with how.
    pub(super) fn migrations(
        &self,
    ) -> impl Iterator<Item = (&DatabaseName, &Database, &SchemaChange, &Migration)> {
        self.schemas.iter().filter_map(|(name, migration)| {
            let database = self.wanted.databases.get(name)?;
            Some((name, database, database.change.as_deref()?, migration))
        })
    }

    /// Whether every schema has come to `target`.
    pub(super) fn schemas_are(&self, world: &World, target: SchemaTarget) -> bool {
        self.migrations().all(|(name, _, change, _)| {
            let seen = world.schema(name, change.revision);
            seen.is_some_and(|seen| target.is_reached(seen.done))
        })
    }

    /// How the change of every schema stands.
    pub fn shapings<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Shaping<'a>> {
        self.migrations().map(|(database, _, change, migration)| {
            let seen = world.schema(database, change.revision);
            let target = self.works_towards(migration);
            let doing = seen.zip(target).and_then(|(seen, target)| doing(seen, target));
            let reached = seen.and_then(|it| it.done).filter(|it| migration.target == Some(*it));
            Shaping {
                database,
                revision: change.revision,
                stage: match (reached, doing, target) {
                    (Some(reached), ..) => reached.word(),
                    (None, Some(doing), _) => doing.word(),
                    (None, None, Some(SchemaTarget::Ready)) if self.paused.is_some() => "paused",
                    (None, None, Some(SchemaTarget::Ready)) => Doing::Expanding.word(),
                    (None, None, Some(SchemaTarget::Contracted)) => Doing::Contracting.word(),
                    (None, None, Some(SchemaTarget::Undone)) => Doing::Undoing.word(),
                    (None, None, None) => "waiting",
                },
                filling: doing.and_then(Doing::filling),
                trouble: seen.and_then(|it| it.trouble.as_ref()).map(|it| it.why.as_str()),
            }
        })
    }

    /// Whether a schema is worked on, and nothing is in the way.
    pub(super) fn schemas_are_at_work(&self, world: &World) -> bool {
        self.migrations().any(|(name, _, change, migration)| {
            let seen = world.schema(name, change.revision);
            let target = self.works_towards(migration);
            seen.zip(target).is_some_and(|(seen, target)| {
                let doing = doing(seen, target).filter(|it| !matches!(it, Doing::Paused(_)));
                doing.is_some() && seen.trouble.is_none() && !target.is_reached(seen.done)
            })
        })
    }

    /// Where somebody is to bring a schema now; nowhere while code that reads it has to go first.
    fn works_towards(&self, migration: &Migration) -> Option<SchemaTarget> {
        let turns = matches!(self.phase, Phase::TurningBack(_));
        migration.target.filter(|it| !turns || *it == SchemaTarget::Undone)
    }

    /// Why a schema cannot come to its new shape.
    pub(super) fn schema_failure(&self, world: &World) -> Option<String> {
        self.migrations().find_map(|(name, _, change, _)| {
            let seen = world.schema(name, change.revision)?;
            let trouble = seen.trouble.as_ref().filter(|it| it.is_final)?;
            Some(format!("the schema of database {name} cannot be changed: {}", trouble.why))
        })
    }
}

impl State {
    /// What is wanted of schemas.
    #[must_use]
    pub fn wanted_schemas(&self) -> Vec<want::Schema> {
        let Some(release) = &self.release else { return Vec::new() };
        let all = release.schemas.iter().filter_map(|(name, migration)| {
            let database = release.wanted.databases.get(name)?;
            Some(want::Schema {
                database: name.clone(),
                // An address that was handed in since is the one that works.
                url: self.newest_address(name).unwrap_or(database.schema_url()).clone(),
                schema: database.schema.clone(),
                change: database.change.clone()?,
                target: release.works_towards(migration),
                paused: release.paused.is_some(),
            })
        });
        all.collect()
    }

    /// The address in the change that waits, if there is one.
    fn newest_address(&self, name: &DatabaseName) -> Option<&KeptSecret> {
        let queued = self.queued.as_ref()?;
        queued.wanted.databases.get(name).map(Database::schema_url)
    }

    /// What is waited for in databases.
    pub(super) fn schema_waits(&self, release: &Release, world: &World) -> Vec<Wait> {
        let mut waits = Vec::new();
        for (name, _, change, migration) in release.migrations() {
            let Some(target) = release.works_towards(migration) else { continue };
            let seen = world.schema(name, change.revision);
            if seen.is_some_and(|seen| target.is_reached(seen.done)) {
                continue;
            }
            let doing = seen.and_then(|seen| doing(seen, target)).map(told).unwrap_or_default();
            let (what, unblock) = match target {
                SchemaTarget::Ready => {
                    ("gets its new shape", "`evenkeel schema status` shows how far it is")
                }
                SchemaTarget::Contracted => {
                    ("loses its old shape", "connections of old code must end first")
                }
                SchemaTarget::Undone => ("loses its new shape", "it needs short locks on tables"),
            };
            waits.push(Wait {
                what: format!("database {name} {what}, revision {}{doing}", change.revision),
                since: release.since,
                until: None,
                last_error: seen.and_then(|it| it.trouble.as_ref()).map(|it| it.why.clone()),
                unblock: match seen.and_then(|it| it.trouble.as_ref()) {
                    Some(trouble) if !trouble.is_final => STUCK.to_owned(),
                    Some(_) if target == SchemaTarget::Contracted => IN_THE_WAY.to_owned(),
                    _ => unblock.to_owned(),
                },
            });
        }
        waits
    }

    /// Lets every workload of `wanted` read its databases as this state will have them.
    pub(super) fn attach_databases(&self, wanted: &mut Stack) {
        for (name, database) in &mut wanted.databases {
            let before = self.stack.databases.get(name).and_then(|it| it.views.clone());
            database.views = database.change.as_ref().map(|it| it.views.clone()).or(before);
        }
        let paths: Vec<(DatabaseName, String)> =
            wanted.databases.iter().map(|(name, it)| (name.clone(), it.search_path())).collect();
        for (_, workload) in wanted.workloads_mut() {
            for (name, path) in &paths {
                if let Some(it) = workload.databases.get_mut(name) {
                    it.clone_from(path);
                }
            }
        }
    }

    /// Why code that a change leaves as it is would read a shape that is gone.
    pub(super) fn reads_what_goes(&self, wanted: &Stack) -> Option<String> {
        wanted.databases.iter().find_map(|(name, database)| {
            let loses = &database.change.as_ref()?.loses;
            if loses.is_empty() {
                return None;
            }
            let stays = |service: &ServiceName, it: &Workload| {
                self.stack.services.get(service).is_some_and(|before| {
                    let databases = it.databases.clone();
                    Workload { databases, ..before.workload.clone() } == *it
                })
            };
            let (service, _) = wanted.services.iter().find(|(service, it)| {
                it.workload.databases.contains_key(name) && stays(service, &it.workload)
            })?;
            Some(format!(
                "{service} uses database {name} and stays as it is, but {} would be gone for it",
                loses.join(", ")
            ))
        })
    }
}

/// What is being done on the way to `target`, and not what was done on another way.
fn doing(seen: &Schema, target: SchemaTarget) -> Option<Doing> {
    seen.doing.filter(|it| it.target() == target)
}

/// What is being done, where its target does not say it: the end of a sentence.
fn told(doing: Doing) -> String {
    match doing {
        Doing::Filling(filling) => format!(": {filling}"),
        Doing::Paused(filling) => format!(": paused, {filling}"),
        Doing::Tightening => ": indexes are built and rules checked".to_owned(),
        Doing::Expanding | Doing::Contracting | Doing::Undoing => String::new(),
    }
}
