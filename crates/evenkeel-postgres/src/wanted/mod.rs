//! What the database shall look like, and where each of its columns comes from.
//!
//! Both forms of input end here: migrations are applied one after the other to the shape that the
//! database has ([`Wanted::after`]). What is lost on the way is remembered by the name it had, and
//! what is new by the expression that fills it; so a hundred migrations of one release come to one
//! change.

mod alter;
mod fold;

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Expression, Rule, Shape, Table};
use crate::sql::{Grammar, Statement};

/// The shape that is wanted, with where it comes from.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The tables, by their new names.
    pub tables: BTreeMap<Name, WantedTable>,
    /// Views that go.
    pub dropped_views: BTreeSet<Name>,
    /// Tables that go, by their old names.
    pub dropped: BTreeMap<Name, Place>,
    /// The SQL that makes the tables that are new, in its order.
    pub made: Vec<String>,
    /// Statements that are carried as they are, in their order.
    pub carried: Vec<Carried>,
}

/// A table as it is wanted.
#[derive(Debug, Clone)]
pub struct WantedTable {
    /// Its name so far; none if it is new.
    pub was: Option<Name>,
    /// Its new shape.
    pub table: Table,
    /// Where each column comes from, by its new name.
    pub columns: BTreeMap<Name, Source>,
    /// Columns that the new shape does not have, by their old names.
    pub gone: BTreeMap<Name, Gone>,
    /// Old columns whose place another takes, by their old names, with the new name of that one.
    pub twins: BTreeMap<Name, Name>,
    /// Defaults that new columns had for a moment, by their names: what rows get that are there, and
    /// those that the old code writes.
    pub passing: BTreeMap<Name, Expression>,
    /// The old names of the constraints that stay, by their new ones.
    pub constraints: BTreeMap<Name, Name>,
    /// The old names of the indexes that stay, by their new ones.
    pub indexes: BTreeMap<Name, Name>,
    /// Where the rows of a new table come from.
    pub copies: Vec<Copied>,
}

/// Where rows of a new table come from: one for each row of an old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The old table, by its old name.
    pub from: Name,
    /// The columns that they get, with what is in them, from columns of the old shape.
    pub columns: Vec<(Name, Expression)>,
    /// Which rows of the old table, if not all.
    pub when: Option<Expression>,
}

impl Copied {
    /// The columns of the new table, with those of the old one, by which a row is found again.
    pub fn key<'a>(&'a self, new: &'a Table) -> Option<Vec<(&'a Name, &'a Name)>> {
        let plain = |column: &Name| -> Option<&'a Name> {
            let (_, value) = self.columns.iter().find(|(it, _)| it == column)?;
            let one = value.columns().next()?;
            let is_it = value.with(|_| String::new()).trim().is_empty();
            is_it.then_some(one)
        };
        new.constraints.iter().find_map(|it| match &it.rule {
            Rule::Primary { columns } | Rule::Unique { columns, .. } => {
                columns.iter().map(|it| Some((it, plain(it)?))).collect()
            }
            Rule::Check { .. } | Rule::Foreign { .. } | Rule::Other { .. } => None,
        })
    }
}

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is an old one, with the same values.
    Kept {
        /// Its old name.
        old: Name,
    },
    /// It is new.
    New {
        /// What it is filled with, from columns of the old shape.
        up: Option<Expression>,
        /// Where it was asked for.
        at: Place,
    },
}

/// A column that the new shape does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What it is kept filled with, from columns of the new shape, until it goes.
    pub down: Option<Expression>,
    /// Where it was asked for.
    pub at: Place,
}

/// A statement that is carried as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Where it stands.
    pub at: Place,
    /// As SQL.
    pub sql: String,
    /// When it is run.
    pub when: When,
}

/// When a carried statement is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// At the beginning, in the schema of the new revision, and at the end in the base schema: views
    /// and functions, which are found by their names.
    PerRevision {
        /// What takes it away from a schema, if it is something of its own: `VIEW name`.
        drop: Option<String>,
    },
    /// At the beginning; `undo` takes it back.
    Beginning {
        /// What takes it back, if anything has to.
        undo: Option<String>,
    },
    /// Before the beginning, in a transaction of its own; it cannot be taken back.
    Alone,
    /// At the beginning, once the new columns are there; `undo` takes it back.
    Expanded {
        /// What takes it back, if anything has to.
        undo: Option<String>,
    },
    /// With the new tables, among the statements that make these; `undo` takes it back.
    Made {
        /// What takes it back.
        undo: String,
    },
    /// At the beginning, as [`When::Expanded`], for rights: views of the new revision get them too.
    Granted,
    /// Once the rows have their new values; it writes rows itself.
    Data {
        /// What takes it back, if anything does.
        undo: Option<String>,
        /// Whether somebody said so, be it that nothing has to.
        said: bool,
    },
    /// At the end, and before the tables whose rows it takes or gives, if these go: a function.
    Uncoded {
        /// Its name.
        function: Name,
    },
    /// At the end, before the old shape goes.
    Leaving,
    /// At the end.
    End,
}

impl When {
    /// What takes it away from a schema, if it is made for each revision.
    pub fn per_revision(&self) -> Option<&str> {
        match self {
            Self::PerRevision { drop } => drop.as_deref(),
            Self::Beginning { .. }
            | Self::Alone
            | Self::Expanded { .. }
            | Self::Granted
            | Self::Made { .. }
            | Self::Data { .. }
            | Self::Uncoded { .. }
            | Self::Leaving
            | Self::End => None,
        }
    }
}

impl Wanted {
    /// The shape as it is.
    pub fn unchanged(now: &Shape) -> Self {
        let table = |table: &Table| WantedTable {
            was: Some(table.name.clone()),
            table: table.clone(),
            columns: table
                .columns
                .iter()
                .map(|it| (it.name.clone(), Source::Kept { old: it.name.clone() }))
                .collect(),
            gone: BTreeMap::new(),
            twins: BTreeMap::new(),
            passing: BTreeMap::new(),
            constraints: table
                .constraints
                .iter()
                .map(|it| (it.name.clone(), it.name.clone()))
                .collect(),
            indexes: table.indexes.iter().map(|it| (it.name.clone(), it.name.clone())).collect(),
            copies: Vec::new(),
        };
        Self {
            tables: now.tables.iter().map(|(name, it)| (name.clone(), table(it))).collect(),
            dropped_views: BTreeSet::new(),
            dropped: BTreeMap::new(),
            made: Vec::new(),
            carried: Vec::new(),
        }
    }

    /// The shape that is wanted, without where it comes from: what the next change begins with.
    pub fn shape(&self, now: &Shape) -> Shape {
        let tables = self.tables.iter().map(|(name, it)| (name.clone(), it.table.clone()));
        Shape { tables: tables.collect(), ..now.clone() }
    }

    /// The shape after the statements, in their order.
    ///
    /// # Errors
    ///
    /// All that cannot be applied, and every answer that is missing.
    pub fn after(
        now: &Shape,
        statements: &[Statement],
        grammar: &dyn Grammar,
    ) -> Result<Self, Vec<Problem>> {
        fold::fold(now, statements, grammar)
    }
}

impl WantedTable {
    /// Whether it is new: then it has no old shape, and is changed as it is written.
    pub fn is_new(&self) -> bool {
        self.was.is_none()
    }

    /// The new name of an old column that stays as it is.
    pub fn kept_as(&self, old: &Name) -> Option<&Name> {
        self.columns.iter().find_map(|(new, source)| match source {
            Source::Kept { old: it } if it == old => Some(new),
            Source::Kept { .. } | Source::New { .. } => None,
        })
    }
}
