//! What is there compared with what the file says, as the statements that lead from one to the other.

mod others;
mod renames;

use std::collections::{BTreeMap, BTreeSet};

use self::renames::Renames;
use super::scratch::Desired;
use super::table::{Changes, Compared};
use crate::catalog::Others;
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Grant, Shape};
use crate::sql::{Action, Answers, Grammar, Statement};
use crate::wanted::Wanted;

/// What is compared.
pub(super) struct Sides<'a> {
    /// The tables and views that are there.
    pub(super) now: &'a Shape,
    /// What is there beside them.
    pub(super) there: &'a Others,
    /// What the file makes.
    pub(super) desired: &'a Desired,
}

/// The statements that lead from one to the other, in the order of the file.
pub(super) fn statements(
    sides: &Sides<'_>,
    start: &Place,
    file: &[Statement],
    grammar: &dyn Grammar,
) -> Result<Vec<Statement>, Vec<Problem>> {
    let mut problems = Vec::new();
    let renames = renames::told(sides, file, &mut problems);
    let live = Wanted::after(sides.now, &renames.statements, grammar)?.shape(sides.now);
    let changes = BTreeMap::new();
    let anew = BTreeSet::new();
    let mut compare = Compare { sides, live, renames, changes, anew, problems };
    compare.tables(file);
    compare.unnamed(start);
    let mut all = compare.renames.statements.clone();
    all.extend(compare.changes.values_mut().flat_map(|it| std::mem::take(&mut it.first)));
    for statement in file {
        compare.statement(statement, &mut all);
    }
    all.extend(compare.changes.values_mut().flat_map(|it| std::mem::take(&mut it.last)));
    compare.leftovers(start, &mut all);
    compare.grants(start, file, &mut all);
    let mut problems = compare.problems;
    problems.sort_by_key(|it| it.at.line);
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

struct Compare<'a> {
    sides: &'a Sides<'a>,
    /// The tables that are there, under their new names.
    live: Shape,
    renames: Renames,
    /// What changes about the tables that stay.
    changes: BTreeMap<Name, Changes>,
    /// Views that are made anew.
    anew: BTreeSet<Name>,
    problems: Vec<Problem>,
}

impl Compare<'_> {
    /// Compares the tables that stay.
    fn tables(&mut self, file: &[Statement]) {
        let none = BTreeMap::new();
        for statement in file {
            let Action::CreateTable { table: written, answers, places, .. } = &statement.action
            else {
                continue;
            };
            let name = &written.name;
            let (Some(live), Some(desired)) =
                (self.live.tables.get(name), self.sides.desired.shape.tables.get(name))
            else {
                continue;
            };
            let renamed = self.renames.columns.get(name).unwrap_or(&none);
            let was = self.renames.tables.get(name).unwrap_or(name);
            let compared =
                Compared { live, was, desired, statement, written, answers, places, renamed };
            let changes = compared.changes(&mut self.problems);
            self.changes.insert(name.clone(), changes);
        }
    }

    /// Tables that the file does not speak of.
    fn unnamed(&mut self, start: &Place) {
        let desired = self.sides.desired;
        for name in self.live.tables.keys() {
            let spoken_of = desired.shape.tables.contains_key(name)
                || desired.kept.contains(name)
                || desired.gone.contains(name)
                || self.sides.there.partitions.contains(name);
            if !spoken_of {
                let what = format!("the database has a table {name}, and the file does not");
                self.problems.push(Problem::new(start, what).hint(format!(
                    "add a line: `-- gone: {0}` if it goes, `-- kept: {0}` if somebody else looks \
                     after it; if it is called otherwise now, `-- was: {0}` above that table",
                    name.plain()
                )));
            }
        }
    }

    fn is_there(&self, table: &Name) -> bool {
        self.live.tables.contains_key(table)
    }

    /// What one statement of the file comes to.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are there, or not compared")]
    fn statement(&mut self, statement: &Statement, out: &mut Vec<Statement>) {
        match &statement.action {
            Action::Gone { tables } => {
                for table in tables {
                    if self.is_there(table) {
                        out.push(self.gone(statement, table));
                    }
                }
            }
            Action::CreateTable { table, .. } => match self.changes.get_mut(&table.name) {
                Some(changes) => out.append(&mut changes.columns),
                None => out.push(without_answers(statement)),
            },
            Action::CreateIndex { table, index, .. } if self.is_view(table) => {
                let there = &self.sides.there.view_indexes;
                if self.anew.contains(table)
                    || !there.contains(&(table.clone(), index.name.clone()))
                {
                    out.push(statement.clone());
                }
            }
            Action::Alter { table, .. }
            | Action::CreateIndex { table, .. }
            | Action::OnTable { table, makes: None, .. }
                if !self.is_there(table) =>
            {
                out.push(statement.clone());
            }
            Action::OnTable { table, makes: Some((what, name)), .. } => {
                match (self.is_there(table), *what) {
                    (false, _) => out.push(statement.clone()),
                    // It belongs to a column, as one that is there does.
                    (true, "SEQUENCE") => {
                        if !self.sides.there.sequences.contains(name) {
                            out.push(statement.clone());
                        }
                    }
                    (true, "TRIGGER") => self.trigger(statement, table, name, out),
                    (true, _) => self.on_table(statement, table, name, out),
                }
            }
            Action::Object { makes: Some((what, name)), .. } => {
                self.object(statement, what, name, out);
            }
            Action::Code { what, name } => self.code(statement, what, name, out),
            // Rights on what is there are compared.
            Action::Rights { on, .. } if on.iter().any(|it| self.is_new(it)) => {
                out.push(statement.clone());
            }
            Action::Farewell if self.is_other_comment(statement) => out.push(statement.clone()),
            _ => {}
        }
    }

    /// Whether something that rights are on is new, or made anew.
    fn is_new(&self, it: &Name) -> bool {
        let there = self.sides.there;
        let code = there.functions.keys().any(|(name, _)| name == it);
        let view = self.sides.now.views.contains_key(it) && !self.anew.contains(it);
        !(self.is_there(it) || view || code || there.sequences.contains(it))
    }

    fn is_view(&self, name: &Name) -> bool {
        self.sides.desired.shape.views.contains_key(name)
    }

    /// Whether a comment says something else than the one that is there; where it is not known which
    /// that is, whether any does.
    fn is_other_comment(&self, statement: &Statement) -> bool {
        let (wanted, there) = (&self.sides.desired.others.comments, &self.sides.there.comments);
        let differs = |what: &String| there.get(what) != wanted.get(what);
        let words: Vec<&str> = statement.sql.split_whitespace().collect();
        let name = words.get(3).map(|it| it.replace('"', "")).unwrap_or_default();
        let what =
            match (words.get(2).map(|it| it.to_ascii_lowercase()).as_deref(), name.split_once('.'))
            {
                (Some("column"), Some((table, column))) => {
                    format!("column {column} of table {table}")
                }
                (Some(kind), _) => format!("{kind} {name}"),
                (None, _) => String::new(),
            };
        if wanted.contains_key(&what) { differs(&what) } else { wanted.keys().any(differs) }
    }

    fn gone(&mut self, statement: &Statement, table: &Name) -> Statement {
        if self.sides.desired.shape.tables.contains_key(table) {
            let what = format!("{table} is said to go, and is in the file");
            self.problems.push(Problem::new(&statement.at, what));
        }
        made(
            &statement.at,
            format!("DROP TABLE {}", table.plain()),
            Action::DropTable { table: table.clone(), lenient: true },
        )
    }

    /// What is there, holds no data and is not in the file.
    fn leftovers(&self, start: &Place, out: &mut Vec<Statement>) {
        let desired = self.sides.desired;
        for view in self.sides.now.views.values() {
            if !desired.shape.views.contains_key(&view.name) {
                out.push(drop_view(start, &view.name, view.materialized));
            }
        }
        for ((name, kinds), function) in &self.sides.there.functions {
            let kept =
                |it: &Name| desired.kept.contains(it) || self.sides.there.partitions.contains(it);
            let free = function.run_by.as_ref().is_some_and(|it| !it.iter().any(kept));
            if free && !desired.others.functions.contains_key(&(name.clone(), kinds.clone())) {
                out.push(others::drop_function(start, name, kinds, function));
            }
        }
        for (name, wanted) in &desired.shape.tables {
            let Some(live) = self.live.tables.get(name) else { continue };
            let mut leave = |what: &str, it: &Name| {
                let sql = format!("DROP {what} {} ON {}", it.plain(), name.plain());
                out.push(made(
                    start,
                    sql,
                    Action::Leaving { table: name.clone(), name: it.clone() },
                ));
            };
            let was = self.renames.tables.get(name).unwrap_or(name);
            let key = |table: &Name, it: &Name| (table.clone(), it.clone());
            for trigger in &live.triggers {
                let disabled = desired.others.disabled.contains(&key(name, &trigger.name));
                if !disabled && !wanted.triggers.iter().any(|it| it.name == trigger.name) {
                    leave("TRIGGER", &trigger.name);
                }
            }
            for ((table, it), (what, _)) in &self.sides.there.on_tables {
                let wanted = &desired.others.on_tables;
                if table == was && !wanted.contains_key(&(name.clone(), it.clone())) {
                    leave(what, it);
                }
            }
            let mut switch = |what: &str, on: bool| {
                let (to, back) = if on { ("ENABLE", "DISABLE") } else { ("DISABLE", "ENABLE") };
                let alter = |word: &str| format!("ALTER TABLE {} {word} {what}", was.plain());
                let mut switched = made(start, alter(to), Action::Raw);
                switched.answers.undo = Some(alter(back));
                out.push(switched);
            };
            if live.guarded != wanted.guarded {
                switch("ROW LEVEL SECURITY", wanted.guarded);
            }
            for (_, trigger) in desired.others.disabled.iter().filter(|(table, _)| table == name) {
                if live.triggers.iter().any(|it| it.name == *trigger) {
                    switch(&format!("TRIGGER {}", trigger.plain()), false);
                }
            }
            for (_, trigger) in self.sides.there.disabled.iter().filter(|(table, _)| table == was) {
                if wanted.triggers.iter().any(|it| it.name == *trigger) {
                    switch(&format!("TRIGGER {}", trigger.plain()), true);
                }
            }
        }
    }

    /// Rights on tables and views that stay, if the file says anything of rights.
    fn grants(&self, start: &Place, file: &[Statement], out: &mut Vec<Statement>) {
        if !file.iter().any(|it| matches!(it.action, Action::Rights { .. })) {
            return;
        }
        let desired = &self.sides.desired.shape;
        let tables = desired
            .tables
            .iter()
            .filter_map(|(name, it)| Some((name, &self.live.tables.get(name)?.grants, &it.grants)));
        let views = desired.views.iter().filter(|(name, _)| !self.anew.contains(*name)).filter_map(
            |(name, it)| Some((name, &self.sides.now.views.get(name)?.grants, &it.grants)),
        );
        for (name, live, wanted) in tables.chain(views) {
            let (live, wanted): (BTreeSet<&Grant>, BTreeSet<&Grant>) =
                (live.iter().collect(), wanted.iter().collect());
            let mut say = |grant: &Grant, taken: bool| {
                let role = grant.role.as_ref().map_or_else(|| "PUBLIC".to_owned(), Name::plain);
                let (verb, to) = if taken { ("REVOKE", "FROM") } else { ("GRANT", "TO") };
                let sql = format!("{verb} {} ON {} {to} {role}", grant.right, name.plain());
                out.push(made(start, sql, Action::Rights { taken, on: vec![name.clone()] }));
            };
            wanted.difference(&live).for_each(|it| say(it, false));
            live.difference(&wanted).for_each(|it| say(it, true));
        }
    }
}

fn made(at: &Place, sql: String, action: Action) -> Statement {
    Statement { at: at.clone(), sql, action, answers: Answers::default() }
}

/// A table that is new has no rows, and nothing that it was.
pub(super) fn without_answers(statement: &Statement) -> Statement {
    let mut statement = statement.clone();
    statement.answers = Answers::default();
    if let Action::CreateTable { answers, .. } = &mut statement.action {
        answers.clear();
    }
    statement
}

fn drop_view(at: &Place, view: &Name, materialized: bool) -> Statement {
    let what = if materialized { "MATERIALIZED VIEW" } else { "VIEW" };
    let action = Action::DropView { view: view.clone(), lenient: false, cascade: false };
    made(at, format!("DROP {what} {}", view.plain()), action)
}
