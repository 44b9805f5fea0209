//! A step of tightening: looks whether it is done, and does what is missing.

use postgres::error::SqlState;

use super::attempt::{Patience, again};
use super::{Failed, Session};
use crate::name::{Name, literal};
use crate::plan::Step;

pub(super) fn step(session: &mut Session, step: &Step, patience: Patience) -> Result<(), Failed> {
    match step {
        Step::Constrain { table, constraint, rule } => {
            constrain(session, table, constraint, rule, patience)
        }
        Step::Index { schema, index, sql } => build(session, schema, index, sql, patience),
    }
}

fn constrain(
    session: &mut Session,
    table: &str,
    constraint: &Name,
    rule: &str,
    patience: Patience,
) -> Result<(), Failed> {
    let state = format!(
        "SELECT convalidated FROM pg_constraint WHERE conrelid = {}::regclass AND conname = {}",
        literal(table),
        literal(constraint.as_str())
    );
    let mut validated = session.one(&state)?;
    if validated.is_none() {
        let lock = patience.per_try.as_millis();
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} {rule} NOT VALID");
        again(session, &[table.to_owned()], patience, |session| {
            session.at_once(&format!("SET LOCAL lock_timeout = '{lock}ms'; {add}"))
        })?;
        validated = Some("f".to_owned());
    }
    if validated.as_deref() == Some("t") {
        return Ok(());
    }
    // Reads the whole table, and lets everybody read and write meanwhile.
    session.run("SET lock_timeout = 0")?;
    let validate = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}");
    session.run(&validate).map_err(|error| violated(error, table, constraint))
}

fn build(
    session: &mut Session,
    schema: &Name,
    index: &Name,
    sql: &str,
    patience: Patience,
) -> Result<(), Failed> {
    let state = format!(
        "SELECT x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
        literal(schema.as_str()),
        literal(index.as_str())
    );
    // It waits for transactions that are older than it, and for nothing else; nobody waits for it.
    session.run("SET lock_timeout = 0")?;
    again(session, &[format!("{schema}.{index}")], patience, |session| {
        match session.one(&state)?.as_deref() {
            Some("t") => return Ok(()),
            Some(_) => {
                session.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index}"))?;
            }
            None => {}
        }
        session.run(sql).map_err(|error| violated(error, schema.as_str(), index))
    })
}

/// A row that breaks a rule is not a fault of the database's.
fn violated(error: Failed, table: &str, rule: &Name) -> Failed {
    let broken = error.code().is_some_and(|code| {
        [
            SqlState::CHECK_VIOLATION,
            SqlState::FOREIGN_KEY_VIOLATION,
            SqlState::UNIQUE_VIOLATION,
            SqlState::NOT_NULL_VIOLATION,
        ]
        .contains(code)
    });
    if !broken {
        return error;
    }
    let detail = error.said().and_then(|it| it.detail().or(Some(it.message())));
    Failed::Violated {
        table: table.to_owned(),
        rule: rule.as_str().to_owned(),
        detail: detail.unwrap_or_default().to_owned(),
    }
}
