//! Migration files, read into what they ask for.
//!
//! This room reads and does not decide: a statement becomes an [`Action`] with its place and the
//! answers that stand in comments beside it. What cannot be modelled is kept as it was written, as
//! [`Action::Raw`], and what cannot be parsed is a [`Problem`].

mod answers;
mod column;
mod expression;
mod lookup;
mod node;
mod rows;
mod squawk;
mod statement;
mod table;

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Column, Constraint, Expression, Index, Table};

/// What a statement makes: how SQL calls such things, and the name of this one.
pub type Made = (&'static str, Name);

pub use self::squawk::Squawk;

/// A grammar of PostgreSQL's SQL. There is one, [`Squawk`]; another can take its place.
pub trait Grammar {
    /// Reads a file. All that is wrong with it is said at once.
    fn read(&self, file: &str, text: &str, schema: &Name) -> (Vec<Statement>, Vec<Problem>);

    /// Reads one expression over the columns of `table`.
    ///
    /// # Errors
    ///
    /// What the grammar says of a text that is none.
    fn expression(&self, text: &str, table: &Name) -> Result<Expression, String>;

    /// Reads what follows the table in `CREATE INDEX … ON table …`.
    ///
    /// # Errors
    ///
    /// What the grammar says of a text that is none.
    fn index(&self, rest: &str, table: &Name) -> Result<Expression, String>;
}

/// One thing that a file asks for. `ALTER TABLE` with three actions is three of them.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Where it begins.
    pub at: Place,
    /// It alone, as SQL without a semicolon.
    pub sql: String,
    /// What it asks for.
    pub action: Action,
    /// What comments beside it say.
    pub answers: Answers,
}

/// What SQL cannot tell, told in comments: `-- up: …`.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// `-- was: name`: what the thing was called before.
    pub was: Option<Name>,
    /// `-- up: expression`: the new value, from columns of the old shape.
    pub up: Option<Expression>,
    /// `-- down: expression`: the old value, from columns of the new shape.
    pub down: Option<Expression>,
    /// `-- undo: statement`: what takes a statement back that is not modelled; `nothing` if there is
    /// nothing to take back.
    pub undo: Option<String>,
    /// `-- gone: column`, or `-- gone: column = expression`, within a table of a desired schema: it
    /// goes, and is filled with that until then.
    pub gone: Vec<(Name, Option<Expression>)>,
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// `CREATE TABLE`.
    CreateTable {
        /// The table.
        table: Table,
        /// Whether one that is there already is fine.
        lenient: bool,
        /// What comments beside its columns say.
        answers: BTreeMap<Name, Answers>,
        /// Where each column stands.
        places: BTreeMap<Name, Place>,
    },
    /// `DROP TABLE`.
    DropTable {
        /// Its name.
        table: Name,
        /// Whether it need not be there.
        lenient: bool,
    },
    /// Anything about one table.
    Alter {
        /// Its name.
        table: Name,
        /// What about it.
        change: Change,
        /// Whether it need not be there.
        lenient: bool,
    },
    /// `CREATE INDEX`.
    CreateIndex {
        /// The table that it is on.
        table: Name,
        /// The index; a name that was not given is made as the server makes it.
        index: Index,
        /// Whether one that is there already is fine.
        lenient: bool,
    },
    /// `DROP INDEX`.
    DropIndex {
        /// Its name.
        index: Name,
        /// Whether it need not be there.
        lenient: bool,
    },
    /// `ALTER INDEX … RENAME TO`.
    RenameIndex {
        /// Its name before.
        index: Name,
        /// Its name after.
        to: Name,
    },
    /// `UPDATE table SET column = expression`, for every row or for those where it is NULL.
    Fill {
        /// The table.
        table: Name,
        /// The columns and what they are filled with.
        columns: Vec<(Name, Expression)>,
    },
    /// `INSERT INTO table (…) SELECT … FROM other`: a row for each row of another table.
    Copy {
        /// The table that gets rows.
        table: Name,
        /// The table that they are made from.
        from: Name,
        /// The columns that they get, with what is in them, from columns of the other.
        columns: Vec<(Name, Expression)>,
        /// Which rows of the other, if not all.
        when: Option<Expression>,
    },
    /// A view, a function, a procedure: it is found by its name, so there can be one for each
    /// revision of the schema.
    Code {
        /// Which kind of thing, as SQL names it: `VIEW`.
        what: &'static str,
        /// Its name, with the arguments where SQL wants them to drop it.
        name: String,
    },
    /// Something about one table that is not part of its shape, such as a trigger: done once the
    /// new columns are there, and taken back by `undo`.
    OnTable {
        /// The table.
        table: Name,
        /// What it makes, if it makes something.
        makes: Option<Made>,
        /// What takes it back; nothing if it does no harm to stay.
        undo: Option<String>,
    },
    /// Rows are written, in another way than [`Action::Fill`].
    Data {
        /// The table, if there is one.
        table: Option<Name>,
    },
    /// Rights are given, or taken.
    Rights {
        /// Whether they are taken.
        taken: bool,
        /// On what, as far as it is named.
        on: Vec<Name>,
    },
    /// `DROP VIEW`, of one.
    DropView {
        /// Its name.
        view: Name,
        /// Whether it need not be there.
        lenient: bool,
        /// Whether views that read it go with it.
        cascade: bool,
    },
    /// `DROP FUNCTION`, or `DROP PROCEDURE`.
    DropCode {
        /// Its name.
        name: Name,
    },
    /// A trigger or a policy goes: first at the end, as it is in the way of what follows.
    Leaving {
        /// The table that it is on.
        table: Name,
        /// Its name.
        name: Name,
    },
    /// Something new that nobody can miss who does not know it, such as an enum type: made at the
    /// beginning, and taken back by `undo`.
    Object {
        /// What it makes, if that has a name.
        makes: Option<Made>,
        /// What takes it back; nothing if it does no harm to stay.
        undo: Option<String>,
    },
    /// A new value of an enum. It cannot be taken back, and nobody who does not know it can meet it
    /// before it is written.
    Value,
    /// Something that may only go once nobody knows it any more.
    Farewell,
    /// Something about how the file is run, not what it does (`BEGIN`, `SET lock_timeout`).
    Manner,
    /// `-- gone: table`, in a desired schema: the tables go.
    Gone {
        /// The tables.
        tables: Vec<Name>,
    },
    /// `-- kept: table`, in a desired schema: somebody else looks after the tables.
    Kept {
        /// The tables.
        tables: Vec<Name>,
    },
    /// Anything else.
    Raw,
}

impl Action {
    /// Whether an answer of this word can be about it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most need no answer")]
    fn takes(&self, word: &str) -> bool {
        match self {
            Self::CreateTable { .. } => matches!(word, "was" | "up" | "down"),
            Self::Alter { change, .. } => match change {
                Change::AddColumn { .. } => word == "up",
                Change::Retype { .. } | Change::SetNotNull { .. } => matches!(word, "up" | "down"),
                Change::DropColumn { .. } | Change::DropNotNull { .. } => word == "down",
                Change::Other => word == "undo",
                _ => false,
            },
            Self::Fill { .. } | Self::Data { .. } | Self::Copy { .. } | Self::Raw => word == "undo",
            _ => false,
        }
    }
}

/// A change of one table.
#[derive(Debug, Clone)]
pub enum Change {
    /// `RENAME TO`.
    Rename {
        /// Its name after.
        to: Name,
    },
    /// `ADD COLUMN`.
    AddColumn {
        /// The column.
        column: Column,
        /// The constraints that stand beside it.
        constraints: Vec<Constraint>,
        /// Whether one that is there already is fine.
        lenient: bool,
    },
    /// `DROP COLUMN`.
    DropColumn {
        /// Its name.
        column: Name,
        /// Whether it need not be there.
        lenient: bool,
    },
    /// `RENAME COLUMN`.
    RenameColumn {
        /// Its name before.
        column: Name,
        /// Its name after.
        to: Name,
    },
    /// `ALTER COLUMN … TYPE`.
    Retype {
        /// The column.
        column: Name,
        /// Its type after.
        kind: Kind,
        /// Its collation after, if one was named.
        collation: Option<String>,
        /// `USING`.
        using: Option<Expression>,
    },
    /// `SET NOT NULL`.
    SetNotNull {
        /// The column.
        column: Name,
    },
    /// `DROP NOT NULL`.
    DropNotNull {
        /// The column.
        column: Name,
    },
    /// `SET DEFAULT`, or `DROP DEFAULT`.
    Default {
        /// The column.
        column: Name,
        /// The default after.
        to: Option<Expression>,
    },
    /// `ADD CONSTRAINT`.
    AddConstraint {
        /// The constraint; a name that was not given is made as the server makes it.
        constraint: Constraint,
        /// The index that it takes over (`USING INDEX`).
        using: Option<Name>,
    },
    /// `DROP CONSTRAINT`.
    DropConstraint {
        /// Its name.
        constraint: Name,
        /// Whether it need not be there.
        lenient: bool,
    },
    /// `RENAME CONSTRAINT`.
    RenameConstraint {
        /// Its name before.
        constraint: Name,
        /// Its name after.
        to: Name,
    },
    /// What changes neither rows nor who may write them (`OWNER TO`, `SET (fillfactor = …)`).
    Later,
    /// `VALIDATE CONSTRAINT`: every constraint of ours is.
    Validate,
    /// One that is not modelled.
    Other,
}
