//! Statements applied to a shape, one after the other.

mod code;
mod rows;

use std::collections::BTreeMap;

use super::{Carried, Source, Wanted, WantedTable, When, alter};
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::{Index, Rule, Shape, Table};
use crate::sql::{Action, Answers, Grammar, Statement};

/// Applies all statements; says all problems.
pub(super) fn fold(
    now: &Shape,
    statements: &[Statement],
    grammar: &dyn Grammar,
) -> Result<Wanted, Vec<Problem>> {
    let mut fold = Fold { now, wanted: Wanted::unchanged(now), grammar, problems: Vec::new() };
    for statement in statements {
        let mut fresh = fold.is_of_new_table(statement);
        if let Err(problem) = fold.apply(statement) {
            fold.problems.push(problem);
        }
        fresh |= fold.is_of_new_table(statement);
        if fresh {
            fold.wanted.made.push(statement.sql.clone());
        }
    }
    if fold.problems.is_empty() { Ok(fold.wanted) } else { Err(fold.problems) }
}

struct Fold<'a> {
    now: &'a Shape,
    wanted: Wanted,
    grammar: &'a dyn Grammar,
    problems: Vec<Problem>,
}

impl Fold<'_> {
    /// Whether a statement is about a table that is new, and so is run as it is written.
    fn is_of_new_table(&self, statement: &Statement) -> bool {
        let tables = &self.wanted.tables;
        let has = |index: &Name| tables.values().find(|it| it.table.index(index).is_some());
        let table = match &statement.action {
            Action::CreateTable { table, .. } => tables.get(&table.name),
            Action::DropTable { table, .. }
            | Action::Alter { table, .. }
            | Action::CreateIndex { table, .. }
            | Action::Fill { table, .. }
            | Action::OnTable { table, .. }
            | Action::Leaving { table, .. }
            | Action::Data { table: Some(table) } => tables.get(table),
            Action::DropIndex { index, .. } | Action::RenameIndex { index, .. } => has(index),
            Action::Rights { on, .. } => on.iter().find_map(|it| tables.get(it)),
            // Rows of a new table are made while others work, if they come from an old one.
            Action::Copy { table, from, .. } => {
                tables.get(table).filter(|_| tables.get(from).is_none_or(WantedTable::is_new))
            }
            Action::Data { table: None }
            | Action::Code { .. }
            | Action::DropCode { .. }
            | Action::DropView { .. }
            | Action::Object { .. }
            | Action::Value
            | Action::Farewell
            | Action::Manner
            | Action::Gone { .. }
            | Action::Kept { .. }
            | Action::Raw => None,
        };
        table.is_some_and(WantedTable::is_new)
    }

    fn apply(&mut self, statement: &Statement) -> Result<(), Problem> {
        match &statement.action {
            Action::CreateTable { table, lenient, answers, .. } => {
                self.create_table(statement, table, *lenient, answers)
            }
            Action::DropTable { table, lenient } => self.drop_table(statement, table, *lenient),
            Action::Alter { table, lenient: true, .. }
                if !self.wanted.tables.contains_key(table) =>
            {
                Ok(())
            }
            Action::Alter { table, change, .. } => {
                if let crate::sql::Change::Rename { to } = change {
                    return self.rename_table(statement, table, to);
                }
                if let crate::sql::Change::Later = change
                    && !self.table(statement, table)?.0.is_new()
                {
                    self.carry(statement, When::End);
                    return Ok(());
                }
                if let crate::sql::Change::Other = change
                    && !self.table(statement, table)?.0.is_new()
                {
                    return self.raw(statement);
                }
                let it = self.table(statement, table)?;
                alter::alter(it.0, it.1, statement, change)
            }
            Action::CreateIndex { table, index, .. } if self.is_materialized(table) => {
                self.index_of_view(statement, table, index);
                Ok(())
            }
            Action::CreateIndex { table, index, lenient } => {
                self.create_index(statement, table, index, *lenient)
            }
            Action::DropIndex { index, lenient } => self.drop_index(statement, index, *lenient),
            Action::RenameIndex { index, to } => self.rename_index(statement, index, to),
            Action::Fill { table, columns } => self.fill(statement, table, columns),
            Action::Code { what, name } => {
                self.code(statement, what, name);
                Ok(())
            }
            Action::DropCode { name } => {
                self.drop_code(statement, name);
                Ok(())
            }
            Action::DropView { view, lenient, cascade } => {
                self.drop_view(statement, view, *lenient, *cascade)
            }
            Action::OnTable { table, undo, .. } => {
                if !self.table(statement, table)?.0.is_new() {
                    self.carry(statement, When::Expanded { undo: undo.clone() });
                }
                Ok(())
            }
            Action::Data { .. } | Action::Copy { .. } if self.is_of_new_table(statement) => Ok(()),
            Action::Copy { table, from, columns, when } => {
                self.copy(statement, table, from, columns, when.as_ref())
            }
            Action::Data { .. } => {
                self.data(statement);
                Ok(())
            }
            Action::Rights { .. } if self.is_of_new_table(statement) => Ok(()),
            Action::Rights { taken, on } => {
                self.rights(statement, *taken, on);
                Ok(())
            }
            Action::Leaving { .. } if self.is_of_new_table(statement) => Ok(()),
            Action::Leaving { table, name } => {
                // One that an earlier statement makes is not made.
                let undo = format!("IF EXISTS {name} ON ");
                let before = self.wanted.carried.len();
                self.wanted.carried.retain(|it| {
                    let made =
                        if let When::Expanded { undo } = &it.when { undo.as_ref() } else { None };
                    made.is_none_or(|it| !it.contains(&undo))
                });
                if self.wanted.carried.len() == before {
                    // It goes before the table gets its new name.
                    let was = self.wanted.tables.get(table).and_then(|it| it.was.as_ref());
                    let sql = match was.filter(|it| *it != table) {
                        Some(was) => {
                            let what = statement.sql.split_whitespace().nth(1).unwrap_or_default();
                            format!("DROP {what} {name} ON {was}")
                        }
                        None => statement.sql.clone(),
                    };
                    let at = statement.at.clone();
                    self.wanted.carried.push(Carried { at, sql, when: When::Leaving });
                }
                Ok(())
            }
            Action::Object { undo, .. } => {
                self.carry(statement, When::Beginning { undo: undo.clone() });
                Ok(())
            }
            Action::Value => {
                self.carry(statement, When::Alone);
                Ok(())
            }
            Action::Farewell => {
                self.carry(statement, When::End);
                Ok(())
            }
            Action::Manner => Ok(()),
            Action::Gone { .. } | Action::Kept { .. } => {
                let what = format!("`{}` belongs into a desired schema", statement.sql);
                Err(Problem::new(&statement.at, what)
                    .hint("a migration says it in SQL: `DROP TABLE …`"))
            }
            Action::Raw => self.raw(statement),
        }
    }

    fn carry(&mut self, statement: &Statement, when: When) {
        self.wanted.carried.push(Carried {
            at: statement.at.clone(),
            sql: statement.sql.clone(),
            when,
        });
    }

    /// A statement that is not modelled: whoever wrote it says how it is taken back.
    fn raw(&mut self, statement: &Statement) -> Result<(), Problem> {
        let Some(undo) = &statement.answers.undo else {
            return Err(not_modelled(statement));
        };
        let undo = (!undo.eq_ignore_ascii_case("nothing")).then(|| undo.clone());
        self.carry(statement, When::Beginning { undo });
        Ok(())
    }

    /// The table, with what reads expressions.
    fn table(
        &mut self,
        statement: &Statement,
        name: &Name,
    ) -> Result<(&mut WantedTable, &dyn Grammar), Problem> {
        let known = self.wanted.tables.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        match self.wanted.tables.get_mut(name) {
            Some(table) => Ok((table, self.grammar)),
            None => Err(Problem::new(&statement.at, format!("there is no table {name}"))
                .hint(format!("known are: {known}"))),
        }
    }

    fn create_table(
        &mut self,
        statement: &Statement,
        table: &Table,
        lenient: bool,
        answers: &BTreeMap<Name, Answers>,
    ) -> Result<(), Problem> {
        if self.wanted.tables.contains_key(&table.name) {
            if lenient {
                return Ok(());
            }
            return Err(Problem::new(
                &statement.at,
                format!("there is a table {} already", table.name),
            ));
        }
        let away = self.wanted.tables.values().find(|it| it.was.as_ref() == Some(&table.name));
        if let Some(other) = away {
            return Err(Problem::new(
                &statement.at,
                format!("{} is called {} from now on, and made anew", table.name, other.table.name),
            )
            .hint(
                "both are there until contract: give the new one another name, or make two changes",
            ));
        }
        if let Some(at) = self.wanted.dropped.get(&table.name) {
            return Err(Problem::new(
                &statement.at,
                format!("{} is dropped ({at}) and made anew in one change", table.name),
            )
            .hint(
                "both are there until contract: give the new one another name, or make two changes",
            ));
        }
        if let Some(column) = answers.keys().next() {
            return Err(Problem::new(
                &statement.at,
                format!("{column} is in a new table, which has no rows: it needs no answer"),
            ));
        }
        self.wanted.tables.insert(
            table.name.clone(),
            WantedTable {
                was: None,
                table: table.clone(),
                columns: table
                    .columns
                    .iter()
                    .map(|it| (it.name.clone(), Source::New { up: None, at: statement.at.clone() }))
                    .collect(),
                gone: BTreeMap::new(),
                twins: BTreeMap::new(),
                passing: BTreeMap::new(),
                constraints: BTreeMap::new(),
                indexes: BTreeMap::new(),
                copies: Vec::new(),
            },
        );
        Ok(())
    }

    fn drop_table(
        &mut self,
        statement: &Statement,
        name: &Name,
        lenient: bool,
    ) -> Result<(), Problem> {
        if lenient && !self.wanted.tables.contains_key(name) {
            return Ok(());
        }
        let (table, _) = self.table(statement, name)?;
        let was = table.was.clone();
        let pointing = self.wanted.tables.values().find(|other| {
            other.table.name != *name
                && other
                    .table
                    .constraints
                    .iter()
                    .any(|it| matches!(&it.rule, Rule::Foreign { table, .. } if table == name))
        });
        if let Some(other) = pointing
            && !statement.sql.to_lowercase().ends_with("cascade")
        {
            return Err(Problem::new(
                &statement.at,
                format!("{} has a foreign key to {name}", other.table.name),
            )
            .hint("drop that constraint first"));
        }
        for other in self.wanted.tables.values_mut() {
            other
                .table
                .constraints
                .retain(|it| !matches!(&it.rule, Rule::Foreign { table, .. } if table == name));
        }
        self.wanted.tables.remove(name);
        if let Some(was) = was {
            self.wanted.dropped.insert(was, statement.at.clone());
        }
        Ok(())
    }

    fn rename_table(
        &mut self,
        statement: &Statement,
        name: &Name,
        to: &Name,
    ) -> Result<(), Problem> {
        if self.wanted.tables.contains_key(to) {
            return Err(Problem::new(&statement.at, format!("there is a table {to} already")));
        }
        self.table(statement, name)?;
        let Some(mut table) = self.wanted.tables.remove(name) else { return Ok(()) };
        table.table.name = to.clone();
        self.wanted.tables.insert(to.clone(), table);
        for other in self.wanted.tables.values_mut() {
            for constraint in &mut other.table.constraints {
                if let Rule::Foreign { table, .. } = &mut constraint.rule
                    && table == name
                {
                    *table = to.clone();
                }
            }
        }
        Ok(())
    }

    fn create_index(
        &mut self,
        statement: &Statement,
        table: &Name,
        index: &Index,
        lenient: bool,
    ) -> Result<(), Problem> {
        let mut tables = self.wanted.tables.values();
        if let Some(other) = tables.find(|it| it.table.index(&index.name).is_some()) {
            if lenient {
                return Ok(());
            }
            let what = format!("there is an index {} already, of {}", index.name, other.table.name);
            return Err(Problem::new(&statement.at, what));
        }
        let (table, _) = self.table(statement, table)?;
        alter::must_know(&table.table, &index.rest, statement)?;
        table.table.indexes.push(index.clone());
        Ok(())
    }

    fn drop_index(
        &mut self,
        statement: &Statement,
        index: &Name,
        lenient: bool,
    ) -> Result<(), Problem> {
        let table = self.wanted.tables.values_mut().find(|it| it.table.index(index).is_some());
        match table {
            Some(table) => {
                table.table.indexes.retain(|it| it.name != *index);
                table.indexes.remove(index);
                Ok(())
            }
            None if lenient => Ok(()),
            None => Err(Problem::new(&statement.at, format!("there is no index {index}"))),
        }
    }

    fn rename_index(
        &mut self,
        statement: &Statement,
        index: &Name,
        to: &Name,
    ) -> Result<(), Problem> {
        for table in self.wanted.tables.values_mut() {
            if let Some(it) = table.table.indexes.iter_mut().find(|it| it.name == *index) {
                it.name = to.clone();
                if let Some(was) = table.indexes.remove(index) {
                    table.indexes.insert(to.clone(), was);
                }
                return Ok(());
            }
        }
        Err(Problem::new(&statement.at, format!("there is no index {index}")))
    }
}

/// What is said of a statement that is not modelled.
fn not_modelled(statement: &Statement) -> Problem {
    let mut first = statement.sql.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    first.push_str(" …");
    Problem::new(&statement.at, format!("`{first}` is not modelled: what takes it back?")).hint(
        "add a line above it: `-- undo: <statement>`, or `-- undo: nothing` if it may stay; \
         it is then run as it is, at the beginning, with a lock_timeout",
    )
}
