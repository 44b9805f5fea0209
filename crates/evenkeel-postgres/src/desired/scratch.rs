//! The schema that a file makes from nothing, beside the one that is there, and never committed.

use std::collections::BTreeSet;

use postgres::{Client, Transaction};

use super::{Failed, reread};
use crate::catalog::{self, Others};
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::{Shape, Trigger};
use crate::sql::{Action, Grammar, Statement};

/// How long a lock is waited for; nothing in a desired schema needs one that others have.
const LOCK_TIMEOUT: &str = "100ms";
/// How long one statement may take. There are no rows.
const STATEMENT_TIMEOUT: &str = "30s";

/// What the file makes.
pub(super) struct Desired {
    /// Its tables and views.
    pub(super) shape: Shape,
    /// What it has beside them.
    pub(super) others: Others,
    /// Tables that somebody else looks after.
    pub(super) kept: BTreeSet<Name>,
    /// Tables that go.
    pub(super) gone: BTreeSet<Name>,
}

/// Makes everything in a schema of its own, reads it, and takes it back.
pub(super) fn make(
    client: &mut Client,
    now: &Shape,
    there: &Others,
    statements: &[Statement],
    grammar: &dyn Grammar,
) -> Result<Desired, Failed> {
    let (mut kept, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for statement in statements {
        if let Action::Kept { tables } = &statement.action {
            kept.extend(tables.iter().cloned());
        } else if let Action::Gone { tables } = &statement.action {
            gone.extend(tables.iter().cloned());
        }
    }
    let mut tx = client.transaction()?;
    let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let scratch = Name::new(format!("evenkeel_desired_{pid}"));
    tx.batch_execute(&format!(
        "SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
         SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; \
         SET LOCAL check_function_bodies = off; \
         SET LOCAL client_min_messages = warning; \
         CREATE SCHEMA {scratch}; SET LOCAL search_path = {scratch}, {}",
        now.schema
    ))?;
    for table in kept.iter().filter(|it| now.tables.contains_key(it)) {
        // What keys point to, and nothing more.
        let schema = &now.schema;
        tx.batch_execute(&format!(
            "CREATE TABLE {table} (LIKE {schema}.{table} INCLUDING INDEXES)"
        ))?;
    }
    run(&mut tx, there, statements)?;
    let mut shape = catalog::read_by(&mut tx, &scratch, &[&scratch, &now.schema], grammar)?;
    reread::settle(&mut tx, now, &mut shape, &scratch)?;
    let others = catalog::others(&mut tx, &scratch, &now.schema)?;
    tx.rollback()?;
    shape.schema.clone_from(&now.schema);
    shape.tables.retain(|name, _| !kept.contains(name));
    for table in shape.tables.values_mut() {
        table.triggers.iter_mut().for_each(|it| bare(it, &scratch));
    }
    Ok(Desired { shape, others, kept, gone })
}

/// Runs each statement, until one is refused: what follows would be refused for it.
fn run(tx: &mut Transaction<'_>, there: &Others, statements: &[Statement]) -> Result<(), Failed> {
    for statement in statements {
        let Some(sql) = to_run(statement, there) else { continue };
        if let Err(error) = tx.batch_execute(&sql) {
            let Some(refused) = error.as_db_error() else { return Err(error.into()) };
            let what = format!("PostgreSQL refuses this: {}", refused.message());
            let problem = Problem::new(&statement.at, what);
            let hint = refused.hint().or(refused.detail()).map(str::to_owned);
            return Err(Failed::Problems(vec![match hint {
                Some(hint) => problem.hint(hint),
                None => problem,
            }]));
        }
    }
    Ok(())
}

/// What is run for a statement, if anything is.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are run as they are")]
fn to_run(statement: &Statement, there: &Others) -> Option<String> {
    match &statement.action {
        Action::Gone { .. } | Action::Kept { .. } => None,
        Action::Object { makes: Some(("EXTENSION", name)), .. }
            if there.extensions.contains(name) =>
        {
            None
        }
        // Within a transaction nothing is built beside the work of others.
        Action::CreateIndex { table, index, .. } => {
            let unique = if index.unique { "UNIQUE " } else { "" };
            Some(format!("CREATE {unique}INDEX {} ON {table} {}", index.name, index.rest.text()))
        }
        _ => Some(statement.sql.clone()),
    }
}

/// A trigger's statement names its table with the schema, always.
fn bare(trigger: &mut Trigger, scratch: &Name) {
    trigger.definition = trigger.definition.replace(&format!("{}.", scratch.as_str()), "");
}
