//! What is there compared with what the file says, as the statements that lead from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use super::scratch::Desired;
use super::table::{Changes, Compared};
use crate::catalog::Others;
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Grant, Shape, Table, Trigger};
use crate::sql::{Action, Answers, Change, Grammar, Statement};
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
    let renames = renames(sides, file, &mut problems);
    let live = Wanted::after(sides.now, &renames.statements, grammar)?.shape(sides.now);
    let mut compare = Compare { sides, live, renames, changes: BTreeMap::new(), problems };
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

/// What has another name from now on.
#[derive(Default)]
struct Renames {
    statements: Vec<Statement>,
    /// The old names of tables, by their new ones.
    tables: BTreeMap<Name, Name>,
    /// The new names of columns by their old ones, by the new names of their tables.
    columns: BTreeMap<Name, BTreeMap<Name, Name>>,
}

/// What `-- was:` tells. One whose old name is not there any more has done its work.
fn renames(sides: &Sides<'_>, file: &[Statement], problems: &mut Vec<Problem>) -> Renames {
    let mut all = Renames::default();
    let still = |at: &Place, was: &Name, name: &Name| {
        let what = format!("{name} is said to have been {was}, which is still in the file");
        Problem::new(at, what).hint(format!("take out `-- was: {}`, or {0}", was.plain()))
    };
    for statement in file {
        let Action::CreateTable { table, answers, places, .. } = &statement.action else {
            continue;
        };
        let name = &table.name;
        let mut push = |at: &Place, of: &Name, sql: String, change: Change| {
            let action = Action::Alter { table: of.clone(), change };
            let sql = format!("ALTER TABLE {} {sql}", of.plain());
            all.statements.push(Statement {
                at: at.clone(),
                sql,
                action,
                answers: Answers::default(),
            });
        };
        let mut live = sides.now.tables.get(name);
        let was = statement.answers.was.as_ref().filter(|_| live.is_none());
        if let Some((was, table)) = was.and_then(|was| sides.now.tables.get_key_value(was)) {
            if sides.desired.shape.tables.contains_key(was) {
                problems.push(still(&statement.at, was, name));
                continue;
            }
            let change = Change::Rename { to: name.clone() };
            push(&statement.at, was, format!("RENAME TO {}", name.plain()), change);
            all.tables.insert(name.clone(), was.clone());
            live = Some(table);
        }
        let Some(live) = live else { continue };
        for (column, said) in answers {
            let Some(was) = &said.was else { continue };
            if live.column(column).is_some() || live.column(was).is_none() {
                continue;
            }
            let at = places.get(column).unwrap_or(&statement.at);
            if table.column(was).is_some() {
                problems.push(still(at, was, column));
                continue;
            }
            let change = Change::RenameColumn { column: was.clone(), to: column.clone() };
            push(at, name, format!("RENAME COLUMN {} TO {}", was.plain(), column.plain()), change);
            all.columns.entry(name.clone()).or_default().insert(was.clone(), column.clone());
        }
    }
    all
}

struct Compare<'a> {
    sides: &'a Sides<'a>,
    /// The tables that are there, under their new names.
    live: Shape,
    renames: Renames,
    /// What changes about the tables that stay.
    changes: BTreeMap<Name, Changes>,
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
            let compared = Compared { live, desired, statement, written, answers, places, renamed };
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
            // A comment.
            Action::Farewell => {
                let (wanted, there) =
                    (&self.sides.desired.others.comments, &self.sides.there.comments);
                if wanted.iter().any(|(what, text)| there.get(what) != Some(text)) {
                    out.push(statement.clone());
                }
            }
            _ => {}
        }
    }

    fn is_new(&self, relation: &Name) -> bool {
        !self.is_there(relation) && !self.sides.now.views.contains_key(relation)
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

    fn trigger(&self, statement: &Statement, table: &Name, name: &Name, out: &mut Vec<Statement>) {
        let find = |tables: &BTreeMap<Name, Table>| -> Option<Trigger> {
            tables.get(table)?.triggers.iter().find(|it| it.name == *name).cloned()
        };
        let live = find(&self.live.tables);
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
    fn on_table(
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

    fn object(&mut self, statement: &Statement, what: &str, name: &Name, out: &mut Vec<Statement>) {
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

    fn code(&mut self, statement: &Statement, what: &str, name: &str, out: &mut Vec<Statement>) {
        let bare = Name::written(name.split('(').next().unwrap_or(name).trim());
        if what.ends_with("VIEW") {
            let desired = self.sides.desired.shape.views.get(&bare);
            let Some(live) = self.sides.now.views.get(&bare) else {
                return out.push(statement.clone());
            };
            let same = desired.is_some_and(|it| {
                it.query == live.query
                    && it.columns == live.columns
                    && it.options == live.options
                    && it.materialized == live.materialized
            });
            if !same {
                out.push(drop_view(&statement.at, &bare, live.materialized));
                out.push(statement.clone());
            }
            return;
        }
        let functions =
            self.sides.desired.others.functions.iter().filter(|((it, _), _)| *it == bare);
        for ((name, kinds), function) in functions {
            let live = self.sides.there.functions.get(&(name.clone(), kinds.clone()));
            if live == Some(function) {
                continue;
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

    /// What is there, holds no data and is not in the file.
    fn leftovers(&self, start: &Place, out: &mut Vec<Statement>) {
        let desired = self.sides.desired;
        for view in self.sides.now.views.values() {
            if !desired.shape.views.contains_key(&view.name) {
                out.push(drop_view(start, &view.name, view.materialized));
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
            for trigger in &live.triggers {
                if !wanted.triggers.iter().any(|it| it.name == trigger.name) {
                    leave("TRIGGER", &trigger.name);
                }
            }
            let was = self.renames.tables.get(name).unwrap_or(name);
            for ((table, it), (what, _)) in &self.sides.there.on_tables {
                let wanted = &desired.others.on_tables;
                if table == was && !wanted.contains_key(&(name.clone(), it.clone())) {
                    leave(what, it);
                }
            }
            if live.guarded != wanted.guarded {
                let (on, off) = ("ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY");
                let (to, back) = if wanted.guarded { (on, off) } else { (off, on) };
                let table = self.renames.tables.get(name).unwrap_or(name);
                let mut guard =
                    made(start, format!("ALTER TABLE {} {to}", table.plain()), Action::Raw);
                guard.answers.undo = Some(format!("ALTER TABLE {} {back}", table.plain()));
                out.push(guard);
            }
        }
    }

    /// Rights on tables that stay, if the file says anything of rights.
    fn grants(&self, start: &Place, file: &[Statement], out: &mut Vec<Statement>) {
        if !file.iter().any(|it| matches!(it.action, Action::Rights { .. })) {
            return;
        }
        for (name, wanted) in &self.sides.desired.shape.tables {
            let Some(live) = self.live.tables.get(name) else { continue };
            let (live, wanted): (BTreeSet<&Grant>, BTreeSet<&Grant>) =
                (live.grants.iter().collect(), wanted.grants.iter().collect());
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
