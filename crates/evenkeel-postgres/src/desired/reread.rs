//! Expressions that are the same, and printed otherwise.
//!
//! What the server prints of an expression it may print otherwise once it has read that: a dump of
//! `a IN ('x', 'y')` comes back with other casts. Where what is there and what is wanted differ, what
//! is there is therefore read once more, beside what is wanted.

use postgres::Transaction;

use super::table::quoted;
use crate::catalog::Unreadable;
use crate::name::{Name, literal};
use crate::shape::{Rule, Shape, Table};

/// What a thing is called while it is read once more.
const NAME: &str = "~evenkeel_reread";

/// Gives the wanted shape, whose tables are in `scratch`, the words of the one that is there, where
/// both say the same.
pub(super) fn settle(
    tx: &mut Transaction<'_>,
    now: &Shape,
    wanted: &mut Shape,
    scratch: &Name,
) -> Result<(), Unreadable> {
    for table in wanted.tables.values_mut() {
        if let Some(live) = now.tables.get(&table.name) {
            settle_table(tx, live, table, scratch)?;
        }
    }
    for view in wanted.views.values_mut() {
        let Some(live) = now.views.get(&view.name).filter(|it| it.query != view.query) else {
            continue;
        };
        let name = Name::new(NAME);
        let make = format!("CREATE VIEW {scratch}.{name} AS {}", live.query);
        let print = format!("SELECT rtrim(pg_get_viewdef({}::regclass), ';')", oid(scratch, NAME));
        let again = printed(tx, &make, &print)?;
        if again.is_some_and(|it| it.trim() == view.query) {
            view.query.clone_from(&live.query);
        }
    }
    Ok(())
}

fn settle_table(
    tx: &mut Transaction<'_>,
    live: &Table,
    wanted: &mut Table,
    scratch: &Name,
) -> Result<(), Unreadable> {
    let table = format!("{scratch}.{}", wanted.name);
    let name = Name::new(NAME);
    for constraint in &mut wanted.constraints {
        let there = live.constraint(&constraint.name).map(|it| &it.rule);
        if let (Some(Rule::Check { expression: live }), Rule::Check { expression }) =
            (there, &mut constraint.rule)
            && quoted(live) != quoted(expression)
        {
            let make = format!("ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({})", live.text());
            let print = format!(
                "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conname = {}",
                literal(NAME)
            );
            if printed(tx, &make, &print)?.as_deref() == Some(expression.text()) {
                *expression = live.clone();
            }
        }
    }
    for index in &mut wanted.indexes {
        let Some(live) =
            live.index(&index.name).filter(|it| quoted(&it.rest) != quoted(&index.rest))
        else {
            continue;
        };
        let make = format!("CREATE INDEX {name} ON {table} {}", live.rest.text());
        let print = format!("SELECT pg_get_indexdef({}::regclass)", oid(scratch, NAME));
        let again = printed(tx, &make, &print)?;
        if again.is_some_and(|it| it.ends_with(&format!(" {}", index.rest.text()))) {
            index.rest = live.rest.clone();
        }
    }
    for column in &mut wanted.columns {
        let live = live.column(&column.name).and_then(|it| it.default.as_ref());
        let (Some(live), Some(default)) = (live, &mut column.default) else { continue };
        if quoted(live) == quoted(default) {
            continue;
        }
        let name = &column.name;
        let make = format!("ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {}", live.text());
        let print = format!(
            "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
             WHERE d.adrelid = {}::regclass AND a.attname = {}",
            literal(&table),
            literal(name.as_str())
        );
        if printed(tx, &make, &print)?.as_deref() == Some(default.text()) {
            *default = live.clone();
        }
    }
    Ok(())
}

/// A name with its schema, as a literal.
fn oid(schema: &Name, name: &str) -> String {
    literal(&format!("{schema}.{}", Name::new(name)))
}

/// What the server prints of something that is made and taken back; nothing if it cannot be made.
fn printed(
    tx: &mut Transaction<'_>,
    make: &str,
    print: &str,
) -> Result<Option<String>, postgres::Error> {
    let mut tx = tx.transaction()?;
    let made = tx.batch_execute(make);
    let text = match made {
        Ok(()) => Some(tx.query_one(print, &[])?.get(0)),
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(error),
    };
    tx.rollback()?;
    Ok(text)
}
