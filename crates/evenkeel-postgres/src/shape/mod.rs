//! The shape of a schema: its tables, with their columns, constraints and indexes, as values.
//!
//! It comes from a live database or from SQL, and does not know which. It knows nothing of rows.

mod expression;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use self::expression::Named;
pub use self::expression::{Expression, Lookup};
use crate::kind::Kind;
use crate::name::Name;

/// All tables of one schema, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The schema that they are in, `public` mostly.
    pub schema: Name,
    /// The tables, by name.
    pub tables: BTreeMap<Name, Table>,
    /// The views, by name.
    #[serde(default)]
    pub views: BTreeMap<Name, View>,
    /// The text of each function, by name; several of one name after one another.
    #[serde(default)]
    pub functions: BTreeMap<Name, String>,
    /// The tables whose rows functions take or give, by the names of those: they go before the tables.
    #[serde(default)]
    pub rows_of: BTreeMap<Name, BTreeSet<Name>>,
    /// Functions that give another value each time, beside those that every server has.
    pub volatile: BTreeSet<Name>,
    /// The major version of the server, 14 for one that nobody asked.
    pub version: u32,
}

impl Shape {
    /// A schema without anything.
    pub fn empty(schema: Name) -> Self {
        Self {
            schema,
            tables: BTreeMap::new(),
            views: BTreeMap::new(),
            functions: BTreeMap::new(),
            rows_of: BTreeMap::new(),
            volatile: BTreeSet::new(),
            version: 14,
        }
    }

    /// The index of that name, with its table.
    pub fn index(&self, name: &Name) -> Option<(&Table, &Index)> {
        self.tables.values().find_map(|table| Some((table, table.index(name)?)))
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name, without the schema.
    pub name: Name,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// Primary key, unique, check and foreign key constraints.
    pub constraints: Vec<Constraint>,
    /// Indexes that belong to no constraint.
    pub indexes: Vec<Index>,
    /// Who may do what with it, beside its owner.
    pub grants: Vec<Grant>,
    /// Who may do what with single columns of it.
    #[serde(default)]
    pub column_grants: Vec<(Name, Grant)>,
    /// How many rows it is thought to have, and bytes.
    pub size: Size,
    /// Whether it is split into partitions, or is one.
    pub partitioned: bool,
    /// Whether it inherits from another table, or another from it; partitions do.
    #[serde(default)]
    pub inherited: bool,
    /// Whether rows are hidden by policies (row level security).
    pub guarded: bool,
    /// Triggers of the user's.
    pub triggers: Vec<Trigger>,
    /// Columns that policies and the like speak of, each with what does.
    #[serde(default)]
    pub spoken_of: Vec<(Name, String)>,
}

/// A view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its name, without the schema.
    pub name: Name,
    /// Whether it holds its rows itself.
    pub materialized: bool,
    /// Its query, with names of the schema unqualified.
    pub query: String,
    /// Its columns, in their order.
    pub columns: Vec<Name>,
    /// The tables and views that it reads, with the columns.
    pub reads: BTreeMap<Name, BTreeSet<Name>>,
    /// What else was said of it: `security_invoker=true`.
    pub options: Vec<String>,
    /// Statements that make its triggers.
    pub triggers: Vec<String>,
    /// Who may do what with it, beside its owner.
    pub grants: Vec<Grant>,
}

/// A trigger of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: Name,
    /// The statement that makes it.
    pub definition: String,
    /// Columns that the statement names.
    pub columns: BTreeSet<Name>,
    /// The function that it runs.
    pub function: Name,
    /// The function's text, as far as it is one.
    pub body: String,
    /// Whether it runs before a row is written, and may change it.
    pub before: bool,
    /// Whether an update runs it, whichever columns that names.
    pub on_update: bool,
}

/// How large a table is thought to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Rows, as the server estimates.
    pub rows: u64,
    /// Bytes without indexes.
    pub bytes: u64,
}

impl Table {
    /// A table with nothing but a name.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            columns: Vec::new(),
            constraints: Vec::new(),
            indexes: Vec::new(),
            grants: Vec::new(),
            column_grants: Vec::new(),
            size: Size::default(),
            partitioned: false,
            inherited: false,
            guarded: false,
            triggers: Vec::new(),
            spoken_of: Vec::new(),
        }
    }

    /// The column of that name.
    pub fn column(&self, name: &Name) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// The column of that name, to be changed.
    pub fn column_mut(&mut self, name: &Name) -> Option<&mut Column> {
        self.columns.iter_mut().find(|column| column.name == *name)
    }

    /// The constraint of that name.
    pub fn constraint(&self, name: &Name) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| constraint.name == *name)
    }

    /// The index of that name.
    pub fn index(&self, name: &Name) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == *name)
    }

    /// How many indexes a row is entered into.
    pub fn entries(&self) -> usize {
        let keys = |it: &&Constraint| matches!(it.rule, Rule::Primary { .. } | Rule::Unique { .. });
        self.indexes.len() + self.constraints.iter().filter(keys).count()
    }

    /// Whether an index, or a key, begins with these columns.
    pub fn is_indexed_by(&self, columns: &[Name]) -> bool {
        let begins = |names: &[&Name]| {
            names.len() >= columns.len() && names.iter().zip(columns).all(|(a, b)| *a == b)
        };
        self.indexes.iter().any(|it| begins(&it.rest.columns().collect::<Vec<_>>()))
            || self.constraints.iter().any(|it| match &it.rule {
                Rule::Primary { columns: of } | Rule::Unique { columns: of, .. } => {
                    begins(&of.iter().collect::<Vec<_>>())
                }
                Rule::Check { .. } | Rule::Foreign { .. } | Rule::Other { .. } => false,
            })
    }

    /// The columns of its primary key; none if it has none.
    pub fn key(&self) -> &[Name] {
        self.constraints
            .iter()
            .find_map(|constraint| match &constraint.rule {
                Rule::Primary { columns } => Some(columns.as_slice()),
                Rule::Unique { .. } | Rule::Check { .. } | Rule::Foreign { .. } => None,
                Rule::Other { .. } => None,
            })
            .unwrap_or_default()
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub kind: Kind,
    /// Its collation, as SQL names it, if it is not the type's own.
    pub collation: Option<String>,
    /// Whether it refuses NULL.
    pub not_null: bool,
    /// What it holds where nothing is said.
    pub default: Option<Expression>,
    /// Whether its values come from a sequence that belongs to it, or from an expression.
    pub made: Made,
    /// The sequence that belongs to it, with its schema, as SQL names it.
    pub sequence: Option<String>,
    /// The last number that the sequence gave out.
    #[serde(default)]
    pub last: Option<i64>,
}

/// Who makes the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Made {
    /// Whoever writes the row.
    #[default]
    Written,
    /// The server, always (`GENERATED ALWAYS AS IDENTITY`).
    IdentityAlways,
    /// The server, where nothing is said (`GENERATED BY DEFAULT AS IDENTITY`).
    IdentityByDefault,
    /// The server, from other columns (`GENERATED ALWAYS AS (…)`).
    Computed,
    /// A sequence by way of the default (`serial`), in what SQL says.
    Serial,
}

/// A constraint, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub rule: Rule,
}

/// What a constraint holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// `PRIMARY KEY (…)`.
    Primary {
        /// The columns, in the order of the key.
        columns: Vec<Name>,
    },
    /// `UNIQUE (…)`.
    Unique {
        /// The columns, in the order of the index.
        columns: Vec<Name>,
        /// Columns that the index holds beside them (`INCLUDE`).
        include: Vec<Name>,
        /// What else was said: `NULLS NOT DISTINCT`, `DEFERRABLE`.
        rest: String,
    },
    /// `CHECK (…)`.
    Check {
        /// What must not be false.
        expression: Expression,
    },
    /// `FOREIGN KEY (…) REFERENCES …`.
    Foreign {
        /// The columns here.
        columns: Vec<Name>,
        /// The table there.
        table: Name,
        /// The columns there; empty stands for its primary key.
        to: Vec<Name>,
        /// What else was said: `ON DELETE CASCADE`, `DEFERRABLE`.
        rest: String,
    },
    /// One that is only carried along, such as `EXCLUDE`.
    Other {
        /// As the server prints it.
        definition: String,
        /// The columns that it speaks of, as far as is known.
        columns: Vec<Name>,
    },
}

impl Rule {
    /// The columns of its own table that it speaks of.
    pub fn columns(&self) -> BTreeSet<&Name> {
        match self {
            Self::Unique { columns, include, .. } => columns.iter().chain(include).collect(),
            Self::Primary { columns }
            | Self::Foreign { columns, .. }
            | Self::Other { columns, .. } => columns.iter().collect(),
            Self::Check { expression } => expression.columns().collect(),
        }
    }
}

/// An index that belongs to no constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name.
    pub name: Name,
    /// Whether it refuses doubles.
    pub unique: bool,
    /// What follows the table's name in `CREATE INDEX … ON table`, with the columns it speaks of:
    /// `USING btree (lower(name)) WHERE …`.
    pub rest: Expression,
}

/// One right of one role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The role; none is everybody (`PUBLIC`).
    pub role: Option<Name>,
    /// The right: `SELECT`, `INSERT` and so on.
    pub right: String,
}
