//! A desired schema: what the database shall look like, as one file, compared with what is there.
//!
//! The file is ordinary SQL that makes everything from nothing, as a dump does. A [`scratch`] schema
//! is made by it, in a transaction that is never committed; so the server itself says what each
//! expression and type comes to. What tells the two apart is written down as the statements that a
//! migration would have ([`compare`]), and goes on from there as one.
//!
//! What holds data goes only when the file says so (`-- gone: …`), and has another name only when it
//! says which it had (`-- was: …`): neither can be told from two shapes.

mod compare;
mod reread;
mod scratch;
mod table;

use std::collections::BTreeSet;

use postgres::Client;

use crate::catalog::{self, Unreadable};
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::Shape;
use crate::sql::{Action, Grammar, Statement};
use crate::wanted::Wanted;

/// Why it could not be said what the file comes to.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is something in the file that cannot be told, or is not SQL.
    #[error("{}", said(.0))]
    Problems(Vec<Problem>),
    /// The database could not be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl From<postgres::Error> for Failed {
    fn from(error: postgres::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

fn said(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The statements by which the database comes to what the file says; none if it is there.
///
/// Nothing in the database is changed, and no table of it is locked for longer than reading takes.
///
/// # Errors
///
/// All that is wrong with the file or cannot be told from it; or when the database cannot be asked.
pub fn statements(
    client: &mut Client,
    now: &Shape,
    file: &str,
    text: &str,
    grammar: &dyn Grammar,
) -> Result<Vec<Statement>, Failed> {
    let read = read(file, text, &now.schema, grammar).map_err(Failed::Problems)?;
    let there = catalog::others(client, &now.schema, &now.schema)?;
    let desired = scratch::make(client, now, &there, &read, grammar)?;
    let sides = compare::Sides { now, there: &there, desired: &desired };
    compare::statements(&sides, &start_of(file), &read, grammar).map_err(Failed::Problems)
}

/// What is wrong with a desired schema, as far as it can be told without a database.
pub fn lint(file: &str, text: &str, schema: &Name, grammar: &dyn Grammar) -> Vec<Problem> {
    let statements = match read(file, text, schema, grammar) {
        Ok(statements) => statements,
        Err(problems) => return problems,
    };
    let made: Vec<Statement> = statements
        .iter()
        .filter(|it| !matches!(it.action, Action::Gone { .. } | Action::Kept { .. }))
        .map(compare::without_answers)
        .collect();
    let nothing = Shape::empty(schema.clone());
    Wanted::after(&nothing, &made, grammar).err().unwrap_or_default()
}

/// Reads a desired schema; it says what is there, and nothing else.
///
/// # Errors
///
/// All that is no SQL, and every statement that has no place in it.
pub fn read(
    file: &str,
    text: &str,
    schema: &Name,
    grammar: &dyn Grammar,
) -> Result<Vec<Statement>, Vec<Problem>> {
    let foreign = not_sql(file, text);
    if !foreign.is_empty() {
        return Err(foreign);
    }
    let (statements, mut problems) = grammar.read(file, &without_meta(text), schema);
    let mut kept = Vec::new();
    for statement in statements.into_iter().filter(|it| !is_manner(it)) {
        match misplaced(&statement) {
            Some(problem) => problems.push(problem),
            None => kept.push(statement),
        }
    }
    problems.extend(unknown_targets(&kept));
    problems.sort_by_key(|it| it.at.line);
    if problems.is_empty() { Ok(kept) } else { Err(problems) }
}

/// What only `psql` understands: its own commands, and rows of `COPY`.
fn not_sql(file: &str, text: &str) -> Vec<Problem> {
    let mut all = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let at = Place { file: file.to_owned(), line: at + 1 };
        let lower = line.trim_end().to_ascii_lowercase();
        if lower.starts_with("copy ") && lower.ends_with("from stdin;") {
            let what = "rows of COPY have no place in a desired schema";
            // What follows are rows.
            return vec![Problem::new(&at, what).hint("dump it with `--schema-only`")];
        }
        if let Some(command) = meta(line).filter(|it| !HARMLESS.contains(it)) {
            let what = format!("`\\{command}` is a command of psql's, and is not followed");
            all.push(Problem::new(&at, what).hint("write out what it brings"));
        }
    }
    all
}

/// Commands that dumps have, which bring nothing.
const HARMLESS: [&str; 2] = ["restrict", "unrestrict"];

/// The command of `psql` that a line is.
fn meta(line: &str) -> Option<&str> {
    let word = line.strip_prefix('\\')?.split_whitespace().next()?;
    word.starts_with(|it: char| it.is_ascii_alphabetic()).then_some(word)
}

/// The text without commands of `psql`. Lines keep their numbers.
fn without_meta(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|it| if meta(it).is_some() { "\n" } else { it });
    lines.collect()
}

/// Whether a statement only says how the file is run, or who owns what it makes.
#[expect(clippy::wildcard_enum_match_arm, reason = "it looks for these alone")]
fn is_manner(statement: &Statement) -> bool {
    let words = words(statement);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &statement.action {
        Action::Manner => true,
        Action::Object { makes: None, .. } => words.starts_with(&["alter", "default"]),
        _ if words.windows(2).any(|it| it == ["owner", "to"]) => true,
        Action::Data { .. } => words.get(1).is_some_and(|it| it.contains("set_config(")),
        Action::Farewell => matches!(
            words.as_slice(),
            ["comment", "on", "extension" | "schema" | "database" | "role", ..]
        ),
        Action::Raw => matches!(words.as_slice(), ["create", "schema", ..]),
        _ => false,
    }
}

/// Why a statement has no place in a desired schema, if it has none.
#[expect(clippy::wildcard_enum_match_arm, reason = "it looks for these alone")]
fn misplaced(statement: &Statement) -> Option<Problem> {
    let words = words(statement);
    let first = words.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
    let problem = |what: &str, hint: &str| {
        Some(Problem::new(&statement.at, format!("`{first} …` {what}")).hint(hint))
    };
    match &statement.action {
        Action::Data { .. } | Action::Fill { .. } | Action::Copy { .. } => problem(
            "is about rows, and a desired schema says what holds them",
            "let the code that needs the rows write them, or a job of the service",
        ),
        Action::DropTable { .. }
        | Action::DropIndex { .. }
        | Action::DropView { .. }
        | Action::DropCode { .. }
        | Action::Leaving { .. }
        | Action::RenameIndex { .. } => problem(
            "has no place in a desired schema, which says what is there",
            "leave out what shall not be there; for tables and columns add `-- gone: name`, for \
             new names `-- was: old name`",
        ),
        Action::Farewell if words.first().is_some_and(|it| it == "drop") => problem(
            "has no place in a desired schema, which says what is there",
            "leave out what shall not be there",
        ),
        Action::Raw | Action::Object { makes: None, .. } => problem(
            "is not compared with what is there",
            "take it out: what is not compared stays in the database as it is",
        ),
        _ => None,
    }
}

/// The statement's words in lower case.
fn words(statement: &Statement) -> Vec<String> {
    statement.sql.split_whitespace().map(str::to_lowercase).collect()
}

/// Foreign keys to tables that the file does not know.
fn unknown_targets(statements: &[Statement]) -> Vec<Problem> {
    let mut known = BTreeSet::new();
    for statement in statements {
        if let Action::CreateTable { table, .. } = &statement.action {
            known.insert(&table.name);
        } else if let Action::Kept { tables } = &statement.action {
            known.extend(tables);
        }
    }
    let mut all = Vec::new();
    for statement in statements {
        for constraint in table::constraints_in(statement) {
            if let Some(to) = table::target(constraint).filter(|it| !known.contains(it)) {
                all.push(
                    Problem::new(
                        &statement.at,
                        format!("{} points to {to}, which the file does not have", constraint.name),
                    )
                    .hint(format!(
                        "add its CREATE TABLE, or `-- kept: {}` if somebody else looks after it",
                        to.as_str()
                    )),
                );
            }
        }
    }
    all
}

fn start_of(file: &str) -> Place {
    Place { file: file.to_owned(), line: 1 }
}
