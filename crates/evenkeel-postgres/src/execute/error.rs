//! Why a plan could not be carried out, or not now.

use postgres::error::{DbError, SqlState};

use super::ledger::Stage;

/// Why a plan could not be carried out, or not now.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The database refused a statement, or could not be asked.
    #[error("could not run `{statement}`")]
    Database {
        /// The beginning of the statement.
        statement: String,
        /// What the database said.
        #[source]
        source: postgres::Error,
    },
    /// The database refused what a phase does to tables, all of which it took back.
    #[error("could not change {tables}")]
    Changing {
        /// The tables.
        tables: String,
        /// What the database said.
        #[source]
        source: postgres::Error,
    },
    /// A function or a view of the migration has not the form of the one whose place it takes.
    #[error(
        "could not put what the migration makes in the place of what is there: {said}; say `{first}` before it, in the same migration"
    )]
    Replacing {
        /// What the database said.
        said: String,
        /// The statement that is missing.
        first: String,
    },
    /// A lock was not to be had in the time that was given.
    #[error("could not get a short lock on {tables} in {seconds} s: {holders}")]
    Locked {
        /// The tables.
        tables: String,
        /// How long it was tried.
        seconds: u64,
        /// Who holds it, as far as could be seen.
        holders: String,
    },
    /// Rows break a rule of the new shape.
    #[error("rows of {table} break {rule}: {detail}")]
    Violated {
        /// The table.
        table: String,
        /// The rule's name.
        rule: String,
        /// What the database said of the row.
        detail: String,
    },
    /// A row cannot have its new value.
    #[error("could not fill rows of {table}: {said}")]
    Unfit {
        /// The table.
        table: String,
        /// What the database said of it.
        said: String,
    },
    /// Rows have no value although all were filled.
    #[error("{rows} rows of {table} get no value: their `up` expression is NULL")]
    Lacking {
        /// The table.
        table: String,
        /// How many rows.
        rows: i64,
    },
    /// Somebody else carries out a plan.
    #[error("somebody else changes this schema at the moment")]
    Busy,
    /// A later control of the same home has taken the schema over.
    #[error("a later control changes this schema by now")]
    Superseded,
    /// Another revision is neither contracted nor undone.
    #[error("revision {revision} is {stage}; {}", .stage.way_out())]
    Unfinished {
        /// Its number.
        revision: u32,
        /// How far it is.
        stage: Stage,
    },
    /// The plan was not begun.
    #[error("revision {revision} was not expanded yet")]
    NotExpanded {
        /// Its number.
        revision: u32,
    },
    /// The plan is not as far.
    #[error("revision {revision} is not filled and checked yet")]
    NotFilled {
        /// Its number.
        revision: u32,
    },
    /// There is no way back.
    #[error("revision {revision} is contracted: there is no way back")]
    Contracted {
        /// Its number.
        revision: u32,
    },
    /// What is written down cannot be read.
    #[error("could not read what is written down of revision {revision}")]
    Ledger {
        /// Its number.
        revision: u32,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl Failed {
    /// What the database called it, if it was the database.
    pub fn code(&self) -> Option<&SqlState> {
        self.said().map(DbError::code)
    }

    /// What the database said, if it was the database.
    pub fn said(&self) -> Option<&DbError> {
        match self {
            Self::Database { source, .. } | Self::Changing { source, .. } => source.as_db_error(),
            Self::Replacing { .. }
            | Self::Locked { .. }
            | Self::Violated { .. }
            | Self::Unfit { .. }
            | Self::Lacking { .. }
            | Self::Busy
            | Self::Superseded
            | Self::Unfinished { .. }
            | Self::NotExpanded { .. }
            | Self::NotFilled { .. }
            | Self::Contracted { .. }
            | Self::Ledger { .. } => None,
        }
    }

    /// Whether trying again does not help: rows break a rule, or the database does not want a
    /// statement. A connection that is lost, or a lock that is not to be had, is another matter.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Replacing { .. }
            | Self::Violated { .. }
            | Self::Unfit { .. }
            | Self::Lacking { .. }
            | Self::Ledger { .. } => true,
            Self::Database { .. } | Self::Changing { .. } => {
                // Classes 08, 53, 55, 57 and 58 are about the server, not about what it was asked.
                let about_server = |code: &SqlState| {
                    ["08", "40", "53", "55", "57", "58"]
                        .iter()
                        .any(|it| code.code().starts_with(it))
                };
                self.code().is_some_and(|code| !about_server(code))
            }
            Self::Locked { .. }
            | Self::Busy
            | Self::Superseded
            | Self::Unfinished { .. }
            | Self::NotExpanded { .. }
            | Self::NotFilled { .. }
            | Self::Contracted { .. } => false,
        }
    }

    /// The same, of a phase that changes these tables.
    pub(super) fn while_changing(self, tables: &[String]) -> Self {
        if tables.is_empty() {
            return self;
        }
        let Self::Database { source, .. } = self else { return self };
        Self::Changing { tables: tables.join(", "), source }
    }

    /// The same, where one of these statements makes a function or a view that cannot take the place of
    /// the one that is there.
    pub(super) fn while_replacing(self, statements: &[String]) -> Self {
        let Some(said) = self.said() else { return self };
        let is_view = said.routine().is_some_and(|it| it.starts_with("checkView"));
        let first = if *said.code() == SqlState::INVALID_FUNCTION_DEFINITION {
            // `Use DROP FUNCTION f(integer) first.`
            let hint = said.hint().and_then(|it| it.find("DROP ").map(|at| &it[at..]));
            let drop = hint.and_then(|it| it.rfind(')').map(|end| it[..=end].to_owned()));
            drop.unwrap_or_else(|| "DROP FUNCTION …".to_owned())
        } else if is_view {
            let mut made = statements.iter().filter_map(|it| replaced_view(it));
            match (made.next(), made.next()) {
                (Some(view), None) => format!("DROP VIEW {view}"),
                (_, _) => "DROP VIEW …".to_owned(),
            }
        } else {
            return self;
        };
        Self::Replacing { said: said.message().to_owned(), first }
    }

    /// The same, of rows of a table that were being filled.
    pub(super) fn while_filling(self, table: &str) -> Self {
        let Some(said) = self.said().filter(|_| self.is_final()) else { return self };
        Self::Unfit { table: table.to_owned(), said: told(said) }
    }

    /// Whether the same may well go better in a moment: a lock, a deadlock.
    pub(super) fn passes(&self) -> bool {
        self.code().is_some_and(|code| {
            [
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::QUERY_CANCELED,
            ]
            .contains(code)
        })
    }
}

/// The view that a statement makes or puts in the place of another.
fn replaced_view(sql: &str) -> Option<&str> {
    let mut words = sql.split_whitespace();
    let head = words.by_ref().map(str::to_ascii_lowercase).take_while(|it| it != "view");
    let head: Vec<String> = head.collect();
    let is = head.starts_with(&["create", "or", "replace"].map(str::to_owned));
    if is { words.next()?.split('(').next() } else { None }
}

/// What the database says of a row, as far as it fits into a line.
fn told(said: &DbError) -> String {
    const LONGEST: usize = 300;
    let parts = [
        Some(said.message()),
        said.detail(),
        // Where a function or a trigger fails, it says in which line.
        said.where_().and_then(|it| it.lines().next()),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text,
    }
}
