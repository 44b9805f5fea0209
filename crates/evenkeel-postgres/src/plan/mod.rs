//! What has to be done for a change of the schema, as SQL, in phases.
//!
//! Pure: the shape that is there and the one that is wanted go in, a [`Plan`] comes out. Nothing here
//! asks a server; what the server has to be asked while the plan is carried out is said in it.
//!
//! | phase | what | how long others wait |
//! |---|---|---|
//! | expand | new columns, triggers that keep both shapes in step, views of the new shape | milliseconds, once |
//! | backfill | rows that are there already get their new values | not at all |
//! | tighten | indexes and constraints of the new shape, checked without blocking | not at all |
//! | contract | the old shape goes, the new one gets its names | milliseconds, once |
//! | undo | instead of contract: the new shape goes | milliseconds, once |
//!
//! Expand, contract and undo are one transaction each, so no write meets a table in between.

mod contract;
mod cost;
mod derive;
mod expand;
mod follow;
mod handed;
mod hazard;
mod keep;
mod layout;
mod numbers;
mod probe;
mod sync;
mod tighten;
mod undo;
mod views;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::name::Name;
use crate::problem::Problem;
use crate::shape::Shape;
use crate::wanted::Wanted;

pub use self::hazard::{Hazard, Weight};
pub use self::probe::{Probe, probes};

/// The schema of what Evenkeel keeps in the database itself.
pub const OWN: &str = "evenkeel";

/// A change of the schema, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The number of the revision of the schema that it makes.
    pub revision: u32,
    /// The schema that holds the tables.
    pub schema: Name,
    /// The schema that holds the views of the new revision.
    pub views: Name,
    /// The schema that holds the views of the revision before, if there is one.
    pub before: Option<Name>,
    /// Expand: one transaction.
    pub expand: Phase,
    /// Then the rows that are there are filled.
    pub backfills: Vec<Backfill>,
    /// Then rows of new tables are made from those of old ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Copied>,
    /// Then statements of the migration that write rows are run, each once, in a transaction of its
    /// own.
    #[serde(default)]
    pub data: Vec<String>,
    /// Then the new shape is held to its rules, step by step.
    pub tighten: Vec<Step>,
    /// Contract: one transaction. From here there is no way back.
    pub contract: Phase,
    /// Undo, instead of contract: one transaction.
    pub undo: Phase,
    /// What people should know before any of it is run.
    pub hazards: Vec<Hazard>,
    /// What code of the old shape may name and the new one does not have: `orders.full_name`.
    pub loses: Vec<String>,
    /// The migrations that it is made of, or the desired schema.
    #[serde(default)]
    pub files: Vec<File>,
    /// The statements that the desired schema came to; none for migrations, which have their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// A migration or a desired schema, as it was when it was planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
    /// Its name, below the folder of the migrations.
    pub name: String,
    /// A digest of its text: SHA-256, as hexadecimal digits.
    pub digest: String,
}

impl Plan {
    /// What is done row by row, in its order.
    pub fn rows(&self) -> Vec<Rows> {
        let filled = self.backfills.iter().map(|it| Rows { count: it.rows, bytes: it.bytes });
        let copied = self.copies.iter().map(|it| Rows { count: it.rows, bytes: it.bytes });
        filled.chain(copied).collect()
    }

    /// A revision that changes nothing: a schema as it is, made by these migrations.
    pub fn as_it_is(revision: u32, schema: &Name, files: Vec<File>) -> Self {
        Self {
            revision,
            schema: schema.clone(),
            views: schema.clone(),
            before: None,
            expand: Phase::default(),
            backfills: Vec::new(),
            copies: Vec::new(),
            data: Vec::new(),
            tighten: Vec::new(),
            contract: Phase::default(),
            undo: Phase::default(),
            hazards: Vec::new(),
            loses: Vec::new(),
            files,
            changes: Vec::new(),
        }
    }
}

impl File {
    /// The migration of that name with that text.
    pub fn of(name: impl Into<String>, text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: name.into(), digest }
    }
}

/// A phase that is one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phase {
    /// What is run before, each in a transaction of its own, as what it makes can only be used by
    /// later ones. Each can be repeated.
    #[serde(default)]
    pub alone: Vec<String>,
    /// What is run before anything is locked.
    pub first: Vec<String>,
    /// The tables that nobody may use while it runs, in the order in which they are locked; with
    /// their schema, as SQL names them.
    pub locks: Vec<String>,
    /// What is run then, in its order.
    pub statements: Vec<String>,
}

/// Rows of one table that have to be given their new values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The table, with its schema, as SQL names it.
    pub table: String,
    /// `column = expression` for `UPDATE … SET`.
    pub set: String,
    /// Which rows lack a value.
    pub lacking: String,
    /// SQL for a whole number that differs from row to row and stays the same for each, to take
    /// turns by.
    pub turn: String,
    /// The columns that are filled, as they are called until contract.
    #[serde(default)]
    pub columns: Vec<Name>,
    /// How many indexes the table has that a row which moves has to be entered into.
    pub indexes: usize,
    /// How many rows it is thought to have.
    pub rows: u64,
    /// How many bytes the table is thought to have.
    pub bytes: u64,
}

/// Rows of a new table that are made from those of an old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The new table, with its schema, as SQL names it.
    pub into: String,
    /// The old table, with its schema, as SQL names it.
    pub from: String,
    /// The columns that the rows get.
    pub columns: String,
    /// What is in them, from columns of the old table.
    pub values: String,
    /// Which rows of the old table.
    pub when: String,
    /// How many rows that is thought to have.
    pub rows: u64,
    /// How many bytes that is thought to have.
    pub bytes: u64,
}

/// How much there is to do row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many rows.
    pub count: u64,
    /// How many bytes the table has.
    pub bytes: u64,
}

/// A step of tightening. Each can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A constraint that holds new rows from now on, and nobody waits for the others to be read.
    Constrain {
        /// The table, as SQL names it.
        table: String,
        /// The constraint's name.
        constraint: Name,
        /// What follows `ADD CONSTRAINT name`, without `NOT VALID`.
        rule: String,
    },
    /// An index, built beside the work that goes on.
    Index {
        /// The schema that it is in.
        schema: Name,
        /// The index's name.
        index: Name,
        /// The statement that makes it.
        sql: String,
    },
}

/// Says what has to be done for `wanted`, given what there is.
///
/// `revision` is the number of the new revision of the schema, `before` the schema of the views of
/// the one that code uses now, if it uses any.
///
/// # Errors
///
/// All that cannot be carried out in a way that blocks nobody and can be undone.
pub fn derive(
    now: &Shape,
    wanted: &Wanted,
    revision: u32,
    before: Option<Name>,
) -> Result<Plan, Vec<Problem>> {
    // Code that reads the tables themselves has no views that could go.
    let before = before.filter(|it| *it != now.schema);
    derive::derive(now, wanted, revision, before)
}

/// The schema that holds the views of a revision.
pub fn views_of(schema: &Name, revision: u32) -> Name {
    Name::made(&[schema.as_str(), &format!("r{revision}")])
}

/// Adds formatted text to a text.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    // Writing to a text cannot fail.
    let _ = out.write_fmt(text);
}
