//! Types, views, functions, triggers, policies and rules.

use std::collections::BTreeMap;

use super::{Compare, drop_view, made};
use crate::catalog::Function;
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Table, Trigger};
use crate::sql::{Action, Statement};

const NO_DATA: &str = "WITH NO DATA";

impl Compare<'_> {
    pub(super) fn trigger(
        &self,
        statement: &Statement,
        table: &Name,
        name: &Name,
        out: &mut Vec<Statement>,
    ) {
        let find = |tables: &BTreeMap<Name, Table>| -> Option<Trigger> {
            tables.get(table)?.triggers.iter().find(|it| it.name == *name).cloned()
        };
        let was = self.renames.tables.get(table).unwrap_or(table);
        if self.sides.there.disabled.contains(&(was.clone(), name.clone())) {
            return;
        }
        let live = find(&self.live.tables);
        let key = (table.clone(), name.clone());
        if live.is_some() && self.sides.desired.others.disabled.contains(&key) {
            return;
        }
        let (Some(live), Some(desired)) = (live, find(&self.sides.desired.shape.tables)) else {
            return out.push(statement.clone());
        };
        // The server follows new names by itself.
        let renamed =
            self.renames.columns.contains_key(table) || self.renames.tables.contains_key(table);
        if renamed || bare(&live, &self.sides.now.schema) == desired.definition {
            return;
        }
        let replacing = |it: &str| match it.strip_prefix("CREATE TRIGGER") {
            Some(rest) => format!("CREATE OR REPLACE TRIGGER{rest}"),
            None => it.to_owned(),
        };
        let action = Action::OnTable {
            table: table.clone(),
            makes: Some(("TRIGGER", name.clone())),
            undo: Some(replacing(&live.definition)),
        };
        out.push(made(&statement.at, replacing(&desired.definition), action));
    }

    /// A policy or a rule, which cannot take the place of one under its name.
    pub(super) fn on_table(
        &mut self,
        statement: &Statement,
        table: &Name,
        name: &Name,
        out: &mut Vec<Statement>,
    ) {
        let was = self.renames.tables.get(table).unwrap_or(table);
        let live = self.sides.there.on_tables.get(&(was.clone(), name.clone()));
        let desired = self.sides.desired.others.on_tables.get(&(table.clone(), name.clone()));
        // The server follows new names by itself.
        let renamed = was != table || self.renames.columns.contains_key(table);
        match live {
            None => out.push(statement.clone()),
            Some(_) if renamed || live == desired => {}
            Some((what, _)) => {
                let what = what.to_lowercase();
                let what = format!("the {what} {name} of {table} is another one in the database");
                self.problems.push(
                    Problem::new(&statement.at, what)
                        .hint("give this one another name: both are there until contract"),
                );
            }
        }
    }

    pub(super) fn object(
        &mut self,
        statement: &Statement,
        what: &str,
        name: &Name,
        out: &mut Vec<Statement>,
    ) {
        let (there, wanted) = (self.sides.there, &self.sides.desired.others);
        let is_there = match what {
            "EXTENSION" => there.extensions.contains(name),
            "SEQUENCE" => there.sequences.contains(name),
            _ => there.enums.contains_key(name) || there.types.contains_key(name),
        };
        if !is_there {
            return out.push(statement.clone());
        }
        if let (Some(live), Some(desired)) = (there.enums.get(name), wanted.enums.get(name)) {
            if let Some(gone) = live.iter().find(|it| !desired.contains(it)) {
                let what = format!("{name} has the value '{gone}' in the database, and not here");
                self.problems.push(Problem::new(&statement.at, what).hint(
                    "a value of an enum cannot be taken away: make another type, and give the \
                     column that",
                ));
            }
            out.extend(values(&statement.at, name, live, desired));
        } else if there.types.get(name) != wanted.types.get(name)
            && what != "EXTENSION"
            && what != "SEQUENCE"
        {
            let what = format!("the type {name} is another one in the database");
            self.problems.push(
                Problem::new(&statement.at, what)
                    .hint("make one of another name, and give the columns that"),
            );
        }
    }

    pub(super) fn code(
        &mut self,
        statement: &Statement,
        what: &str,
        name: &str,
        out: &mut Vec<Statement>,
    ) {
        let bare = Name::written(name.split('(').next().unwrap_or(name).trim());
        if what.ends_with("VIEW") {
            let desired = self.sides.desired.shape.views.get(&bare);
            let mut statement = statement.clone();
            // As dumps have it; but one that is to be read holds its rows.
            let whole = statement.sql.len().saturating_sub(NO_DATA.len());
            if statement.sql.get(whole..).is_some_and(|it| it.eq_ignore_ascii_case(NO_DATA)) {
                statement.sql.truncate(whole);
            }
            let Some(live) = self.sides.now.views.get(&bare) else {
                return out.push(statement);
            };
            let same = desired.is_some_and(|it| {
                it.query == live.query
                    && it.columns == live.columns
                    && it.options == live.options
                    && it.materialized == live.materialized
            });
            if !same {
                out.push(drop_view(&statement.at, &bare, live.materialized));
                out.push(statement);
                self.anew.insert(bare);
            }
            return;
        }
        let functions =
            self.sides.desired.others.functions.iter().filter(|((it, _), _)| *it == bare);
        for ((name, kinds), function) in functions {
            let live = self.sides.there.functions.get(&(name.clone(), kinds.clone()));
            if live.is_some_and(|it| it.definition == function.definition) {
                continue;
            }
            if let Some(live) = live.filter(|it| it.head != function.head) {
                if live.run_by.is_none() {
                    let what = format!(
                        "{name} takes or gives something else than in the database, where it is used"
                    );
                    let hint = "give this one another name";
                    self.problems.push(Problem::new(&statement.at, what).hint(hint));
                    continue;
                }
                out.push(drop_function(&statement.at, name, kinds, live));
            }
            let code = match function.what.as_str() {
                "PROCEDURE" => "PROCEDURE",
                _ => "FUNCTION",
            };
            let action = Action::Code { what: code, name: format!("{name}({kinds})") };
            let statement = made(&statement.at, function.definition.trim().to_owned(), action);
            // The file may have several of one name.
            if !out.iter().any(|it| it.sql == statement.sql) {
                out.push(statement);
            }
        }
    }
}

pub(super) fn drop_function(
    at: &Place,
    name: &Name,
    kinds: &str,
    function: &Function,
) -> Statement {
    let sql = format!("DROP {} {}({kinds})", function.what, name.plain());
    made(at, sql, Action::DropCode { name: name.clone() })
}

/// The values that an enum lacks, each beside its neighbour.
fn values(at: &Place, name: &Name, live: &[String], desired: &[String]) -> Vec<Statement> {
    let literal = crate::name::literal;
    let mut all = Vec::new();
    for (index, value) in desired.iter().enumerate() {
        if live.contains(value) {
            continue;
        }
        let beside = match index.checked_sub(1).map(|it| &desired[it]) {
            Some(before) => format!(" AFTER {}", literal(before)),
            None => live.first().map(|it| format!(" BEFORE {}", literal(it))).unwrap_or_default(),
        };
        let sql = format!(
            "ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{beside}",
            name.plain(),
            literal(value)
        );
        all.push(made(at, sql, Action::Value));
    }
    all
}

/// A trigger's statement without the schema of its table.
fn bare(trigger: &Trigger, schema: &Name) -> String {
    trigger.definition.replace(&format!("{}.", schema.as_str()), "")
}
