//! What is written down in the database itself: which revisions of the schema there were, and how
//! far each is. It is written in the transaction that does the work, so it is never wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Failed, Session};
use crate::name::{Name, literal};
use crate::plan::{File, OWN, Plan};

/// How far a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The new shape is there, and is kept in step.
    Expanded,
    /// All rows have their values.
    Filled,
    /// The new shape is held to its rules: code may use it.
    Ready,
    /// The old shape is gone.
    Contracted,
    /// The new shape is gone.
    Undone,
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Expanded, Self::Filled, Self::Ready, Self::Contracted, Self::Undone];

    fn word(self) -> &'static str {
        match self {
            Self::Expanded => "expanded",
            Self::Filled => "filled",
            Self::Ready => "ready",
            Self::Contracted => "contracted",
            Self::Undone => "undone",
        }
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }

    /// What ends it, for people: a sentence.
    pub fn way_out(self) -> &'static str {
        match self {
            Self::Expanded | Self::Filled => {
                "wait until its release is over (`evenkeel schema status` shows how far it is), or \
                 take it back with `evenkeel abort`"
            }
            Self::Ready => {
                "its old shape stays until its release is over: `evenkeel promote` takes the next \
                 step, or ends the bake; `evenkeel abort` takes it back, and while it bakes \
                 `evenkeel rollback`"
            }
            Self::Contracted | Self::Undone => "it is over",
        }
    }

    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Contracted | Self::Undone)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One revision of the schema.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub revision: u32,
    /// How far it is.
    pub stage: Stage,
    /// What was planned.
    pub plan: Plan,
    /// When it began, as the database says it.
    pub began: String,
    /// When it came to this stage, as the database says it.
    pub changed: String,
    /// How many rows have been filled for it.
    pub filled: u64,
}

/// All that is written down of a schema.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The revisions, from the oldest.
    pub entries: Vec<Entry>,
}

impl Ledger {
    /// The revision that is neither contracted nor undone.
    pub fn active(&self) -> Option<&Entry> {
        self.entries.iter().find(|it| !it.stage.is_over())
    }

    /// The number of the next revision.
    pub fn next(&self) -> u32 {
        self.entries.iter().map(|it| it.revision).max().unwrap_or_default() + 1
    }

    /// The migrations that the schema is made of, by their names.
    pub fn files(&self) -> BTreeMap<&str, &File> {
        let kept = self.entries.iter().filter(|it| it.stage == Stage::Contracted);
        kept.flat_map(|it| &it.plan.files).map(|file| (file.name.as_str(), file)).collect()
    }

    /// The schema of the views that code uses by now: those of the last revision that was
    /// contracted.
    pub fn views(&self) -> Option<&Name> {
        let last = self.entries.iter().rev().find(|it| it.stage == Stage::Contracted);
        last.map(|it| &it.plan.views)
    }
}

/// How long is waited for whoever has the schema.
pub(super) const TAKE: Duration = Duration::from_secs(5);

/// Takes the schema over for this session.
pub(super) fn take(session: &mut Session, schema: &Name) -> Result<(), Failed> {
    // A process that ended a moment ago may still have it.
    let query = format!(
        "BEGIN; SET LOCAL lock_timeout = '{}ms'; SELECT pg_advisory_lock(hashtext({}), hashtext({})); \
         COMMIT",
        TAKE.as_millis(),
        literal(OWN),
        literal(schema.as_str())
    );
    match session.run(&query) {
        Err(error) if error.passes() => Err(Failed::Busy),
        done => done,
    }
}

/// Makes what the ledger is written into, if it is not there.
pub(super) fn create(session: &mut Session) -> Result<(), Failed> {
    let own = Name::new(OWN);
    session.run(&format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock(hashtext({literal}));
         CREATE SCHEMA IF NOT EXISTS {own};
         CREATE TABLE IF NOT EXISTS {own}.revision (
             schema text NOT NULL,
             number integer NOT NULL,
             stage text NOT NULL,
             plan text NOT NULL,
             began timestamptz NOT NULL DEFAULT clock_timestamp(),
             changed timestamptz NOT NULL DEFAULT clock_timestamp(),
             PRIMARY KEY (schema, number)
         );
         CREATE UNIQUE INDEX IF NOT EXISTS one_at_a_time ON {own}.revision (schema)
             WHERE stage NOT IN ('contracted', 'undone');
         CREATE TABLE IF NOT EXISTS {own}.backfill (
             schema text NOT NULL,
             number integer NOT NULL,
             position integer NOT NULL,
             pages bigint NOT NULL,
             region bigint NOT NULL DEFAULT 0,
             turn integer NOT NULL DEFAULT 0,
             part integer NOT NULL DEFAULT 0,
             until integer NOT NULL DEFAULT 0,
             page bigint NOT NULL DEFAULT 0,
             rows bigint NOT NULL DEFAULT 0,
             PRIMARY KEY (schema, number, position)
         ) WITH (fillfactor = 10);
         DO $$ BEGIN
             -- One that an earlier version made.
             IF NOT EXISTS (SELECT FROM pg_attribute WHERE attname = 'until'
                            AND attrelid = '{own}.backfill'::regclass) THEN
                 ALTER TABLE {own}.backfill ADD COLUMN turn integer NOT NULL DEFAULT 0,
                     ADD COLUMN part integer NOT NULL DEFAULT 0,
                     ADD COLUMN until integer NOT NULL DEFAULT 0;
             END IF;
         END $$;
         CREATE TABLE IF NOT EXISTS {own}.driver (
             schema text PRIMARY KEY,
             home text NOT NULL,
             epoch bigint NOT NULL
         );
         CREATE TABLE IF NOT EXISTS {own}.data (
             schema text NOT NULL,
             number integer NOT NULL,
             position integer NOT NULL,
             PRIMARY KEY (schema, number, position)
         );
         COMMIT",
        literal = literal(OWN)
    ))?;
    Ok(())
}

/// Reads all of a schema; nothing where nothing was ever written.
pub(super) fn look(session: &mut Session, schema: &Name) -> Result<Ledger, Failed> {
    let own = literal(&format!("{}.revision", Name::new(OWN)));
    match session.one(&format!("SELECT to_regclass({own})"))? {
        Some(_) => read(session, schema),
        None => Ok(Ledger::default()),
    }
}

/// How long a statement that writes rows waits for one that somebody else has.
const ROW: Duration = Duration::from_secs(10);

/// Runs a statement once, whatever ends this process when.
pub(super) fn once(
    session: &mut Session,
    schema: &Name,
    revision: u32,
    position: usize,
    statement: &str,
) -> Result<(), Failed> {
    let own = Name::new(OWN);
    let schema = literal(schema.as_str());
    let done = session.one(&format!(
        "SELECT 1 FROM {own}.data \
         WHERE schema = {schema} AND number = {revision} AND position = {position}"
    ))?;
    if done.is_some() {
        return Ok(());
    }
    session.at_once(&format!(
        "SET LOCAL lock_timeout = '{}ms'; {statement}; \
         INSERT INTO {own}.data (schema, number, position) \
             VALUES ({schema}, {revision}, {position})",
        ROW.as_millis()
    ))
}

/// Reads all of a schema.
pub(super) fn read(session: &mut Session, schema: &Name) -> Result<Ledger, Failed> {
    let rows = session.rows(&format!(
        "SELECT number, stage, plan, began::timestamptz(0), changed::timestamptz(0), \
             (SELECT coalesce(sum(rows), 0) FROM {own}.backfill b \
              WHERE b.schema = r.schema AND b.number = r.number) \
         FROM {own}.revision r WHERE schema = {} ORDER BY number",
        literal(schema.as_str()),
        own = Name::new(OWN),
    ))?;
    let mut ledger = Ledger::default();
    for row in rows {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let revision = text(0).parse().unwrap_or_default();
        let plan =
            serde_json::from_str(&text(2)).map_err(|source| Failed::Ledger { revision, source })?;
        let filled = text(5).parse().unwrap_or_default();
        let Some(stage) = Stage::read(&text(1)) else { continue };
        ledger.entries.push(Entry {
            revision,
            stage,
            plan,
            began: text(3),
            changed: text(4),
            filled,
        });
    }
    Ok(ledger)
}

/// How many rows were filled for a revision, by all of its backfills or those before one.
pub(super) fn filled(
    session: &mut Session,
    schema: &Name,
    revision: u32,
    before: Option<usize>,
) -> Result<u64, Failed> {
    let before = before.map(|it| format!(" AND position < {it}")).unwrap_or_default();
    let rows = session.number(&format!(
        "SELECT coalesce(sum(rows), 0) FROM {}.backfill \
         WHERE schema = {} AND number = {revision}{before}",
        Name::new(OWN),
        literal(schema.as_str())
    ))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// The statement that begins a revision, or begins it again after it was undone.
pub(super) fn enter(schema: &Name, plan: &Plan, stage: Stage) -> Result<String, Failed> {
    let text = serde_json::to_string(plan)
        .map_err(|source| Failed::Ledger { revision: plan.revision, source })?;
    Ok(format!(
        "DELETE FROM {own}.backfill WHERE schema = {schema} AND number = {number}; \
         INSERT INTO {own}.revision (schema, number, stage, plan) \
         VALUES ({schema}, {number}, {stage}, {text}) \
         ON CONFLICT (schema, number) DO UPDATE SET stage = excluded.stage, \
         plan = excluded.plan, began = clock_timestamp(), changed = clock_timestamp()",
        own = Name::new(OWN),
        schema = literal(schema.as_str()),
        number = plan.revision,
        stage = literal(stage.word()),
        text = literal(&text)
    ))
}

/// How far one revision is, without what was planned being read.
pub(super) fn stage_of(
    session: &mut Session,
    schema: &Name,
    revision: u32,
) -> Result<Option<Stage>, Failed> {
    let stage = session.one(&format!(
        "SELECT stage FROM {}.revision WHERE schema = {} AND number = {revision}",
        Name::new(OWN),
        literal(schema.as_str())
    ))?;
    Ok(stage.as_deref().and_then(Stage::read))
}

/// The statement that brings a revision to a stage.
pub(super) fn stage(schema: &Name, revision: u32, stage: Stage) -> String {
    format!(
        "UPDATE {}.revision SET stage = {}, changed = clock_timestamp() \
         WHERE schema = {} AND number = {revision}",
        Name::new(OWN),
        literal(stage.word()),
        literal(schema.as_str())
    )
}
