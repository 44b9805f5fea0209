//! What people should know of a plan before it is run.

mod rules;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::expand::names;
use super::follow;
use super::layout::Layout;
use super::{cost, put, views};
use crate::kind::Kind;
use crate::name::{Name, list};
use crate::problem::Place;
use crate::shape::{Made, Shape};
use crate::wanted::{Wanted, When};

/// Something to know about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// How much it matters.
    pub weight: Weight,
    /// Where it comes from, if it stands somewhere.
    pub at: Option<Place>,
    /// What it is: a fragment in lower case.
    pub what: String,
}

/// How much a hazard matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Good to know.
    Note,
    /// It may fail writes, or lose what cannot be had again.
    Warning,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            Weight::Note => f.write_str("note: ")?,
            Weight::Warning => f.write_str("warning: ")?,
        }
        f.write_str(&self.what)?;
        match &self.at {
            Some(at) => write!(f, " ({at})"),
            None => Ok(()),
        }
    }
}

/// Everything to know about the change.
pub(super) fn hazards(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    before: Option<&Name>,
) -> Vec<Hazard> {
    let mut all = Vec::new();
    if before.is_none() && layouts.iter().any(Layout::is_changed) {
        let what = "the code that runs reads the tables themselves: its `SELECT *` sees the new \
                    columns, and what it has prepared may fail; release once without this change, \
                    and it reads by views from then on";
        all.push(warning(None, what.to_owned()));
    }
    for it in wanted.carried.iter().filter(|it| it.when == When::Alone) {
        let what = "a new value of an enum cannot be taken back: undo leaves it there".to_owned();
        all.push(note(Some(&it.at), what));
    }
    for it in &wanted.carried {
        if let When::Data { said: false, .. } = it.when
            && !it.sql.to_lowercase().starts_with("select")
        {
            let mut first = it.sql.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
            first.push_str(" …");
            all.push(warning(
                Some(&it.at),
                format!(
                    "`{first}` writes rows before the new code gets traffic, and undo leaves them so; \
                     `-- undo: <statement>` takes it back"
                ),
            ));
        }
        if let When::Expanded { .. } = it.when {
            let what =
                "the writes of the old code are subject to it too, from expand on".to_owned();
            all.push(note(Some(&it.at), what));
        }
    }
    for (table, at) in &wanted.dropped {
        all.push(warning(Some(at), format!("{table} and its rows are gone after contract")));
    }
    for layout in layouts {
        for (column, other) in follow::astray(layout) {
            let table = &layout.old.name;
            all.push(warning(
                None,
                format!(
                    "{table}.{column} is looked up in {other} and does not follow it: say by which \
                     columns, `WHERE {other}.<column> = {table}.<column>`"
                ),
            ));
        }
        for (column, other, own) in follow::scanned(layout) {
            let table = &layout.old.name;
            all.push(warning(
                None,
                format!(
                    "each write of {other} that {table}.{column} follows reads all of {table}, as no \
                     index begins with {own}; make one before"
                ),
            ));
        }
        all.extend(of_table(layouts, layout));
        all.extend(texts(now, wanted, layout));
        all.extend(filled(layout));
        all.extend(worn(layout));
    }
    for view in &views::carried(now, wanted, layouts).again {
        let what =
            format!("the view {} is made anew at contract, as what it reads changes", view.name);
        all.push(note(None, what));
    }
    all
}

/// Functions whose text names a column that has another name afterwards, or none.
fn texts(now: &Shape, wanted: &Wanted, layout: &Layout<'_>) -> Vec<Hazard> {
    let table = &layout.old.name;
    let replaced = |function: &Name| {
        wanted.carried.iter().any(|it| {
            let again = it.when.per_revision().is_some_and(|it| it.starts_with("FUNCTION"));
            (again || it.when == When::End) && names(&it.sql, function)
        })
    };
    let mut all = Vec::new();
    for column in &layout.old.columns {
        let name = &column.name;
        let stays =
            layout.new.kept_as(name) == Some(name) || layout.new.twins.get(name) == Some(name);
        if stays {
            continue;
        }
        for trigger in &layout.old.triggers {
            if names(&trigger.body, name) && !replaced(&trigger.function) {
                all.push(warning(
                    None,
                    format!(
                        "the trigger {} of {table} runs {}, which names {name}: after contract there \
                         is none, and writes fail; replace the function in the same migration",
                        trigger.name, trigger.function
                    ),
                ));
            }
        }
        for (function, body) in &now.functions {
            let runs = layout.old.triggers.iter().any(|it| it.function == *function);
            if !runs && names(body, name) && names(body, table) && !replaced(function) {
                all.push(warning(
                    None,
                    format!(
                        "the function {function} names {table} and {name}, which goes or is renamed"
                    ),
                ));
            }
        }
    }
    all
}

/// What is done row by row, how much it is, and what that comes to.
fn filled(layout: &Layout<'_>) -> Option<Hazard> {
    let filled: Vec<&Name> =
        layout.fresh.iter().filter(|it| it.up.is_some()).map(|it| &it.name).collect();
    let size = layout.old.size;
    if filled.is_empty() || size.rows == 0 {
        return None;
    }
    let mut what = format!(
        "{} of {} are filled row by row: about {} rows, {} MB",
        list(filled),
        layout.old.name,
        size.rows,
        size.bytes.div_ceil(MB)
    );
    let old: Vec<&Kind> = layout.old.columns.iter().map(|it| &it.kind).collect();
    let new = layout.fresh.iter().filter(|it| it.up.is_some());
    let new: Vec<&Kind> = new.map(|it| &it.column.kind).collect();
    if let Some(cost) = cost::cost(size, &old, &new, layout.old.entries()) {
        put(
            &mut what,
            format_args!(
                "; the table grows by about {} % until it is rewritten, and about {} MB of WAL are \
                 written",
                cost.growth,
                cost.wal.div_ceil(MB)
            ),
        );
    }
    Some(note(None, what))
}

/// Bytes of a megabyte.
const MB: u64 = 1_000_000;

/// The share of its numbers, in per cent, from which on a column is said to be near its end.
const NEAR_END: i64 = 70;

/// Columns that soon have no numbers left.
fn worn(layout: &Layout<'_>) -> Vec<Hazard> {
    let mut all = Vec::new();
    for column in &layout.old.columns {
        let end = match column.kind.as_str() {
            "smallint" => i64::from(i16::MAX),
            "integer" => i64::from(i32::MAX),
            _ => continue,
        };
        let used = column.last.unwrap_or_default().saturating_mul(100) / end;
        if used >= NEAR_END && layout.new.kept_as(&column.name).is_some() {
            let (table, name, kind) = (&layout.old.name, &column.name, &column.kind);
            all.push(warning(
                None,
                format!(
                    "{table}.{name} has used {used} % of the numbers of its type, {kind}: \
                     ALTER COLUMN {name} TYPE bigint while there is time"
                ),
            ));
        }
    }
    all
}

fn of_table(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<Hazard> {
    let mut all = Vec::new();
    let table = &layout.old.name;
    for (column, gone) in &layout.new.gone {
        let replaced = layout
            .fresh
            .iter()
            .any(|it| it.up.as_ref().is_some_and(|up| up.columns().any(|name| name == column)));
        if !replaced {
            all.push(warning(
                Some(&gone.at),
                format!("what is in {table}.{column} is gone after contract"),
            ));
        }
    }
    for it in &layout.fresh {
        let Some(up) = &it.up else { continue };
        for (old, down) in layout.downs() {
            let cast = up.is_strict() && down.is_strict();
            let refuses = cast
                && down.columns().any(|name| *name == it.name)
                && layout.old.column(old).is_some_and(|before| {
                    up.columns().any(|name| name == old) && !before.kind.widens_to(&it.column.kind)
                });
            if refuses {
                all.push(warning(
                    Some(&it.at),
                    format!(
                        "old code that writes into {table}.{old} what is no {} fails from expand on",
                        it.column.kind
                    ),
                ));
            }
            let narrows = down.columns().any(|name| *name == it.name)
                && layout.old.column(old).is_some_and(|before| {
                    up.columns().any(|name| name == old) && !it.column.kind.widens_to(&before.kind)
                });
            if narrows {
                all.push(note(
                    Some(&it.at),
                    format!(
                        "until contract a value of {table}.{} must fit the old column too",
                        it.name
                    ),
                ));
            }
        }
    }
    for it in &layout.fresh {
        let given = it.column.default.is_some() || it.column.made != Made::Written;
        let twin = layout.new.twins.values().any(|new| *new == it.name);
        if it.column.not_null && !given && it.made.is_none() && !twin {
            all.push(note(
                Some(&it.at),
                format!(
                    "new code that writes rows of {table} without {} fails: it is NOT NULL and has no \
                     default",
                    it.name
                ),
            ));
        }
    }
    let filled = layout.fresh.iter().any(|it| it.up.is_some());
    let triggers = layout.old.triggers.iter().filter(|it| {
        // What one that runs before makes of the row is taken back.
        it.on_update && (!it.before || does_more(&it.body))
    });
    let triggers: Vec<&Name> = triggers.map(|it| &it.name).collect();
    if filled && !triggers.is_empty() {
        all.push(warning(
            None,
            format!(
                "these triggers of {table} run for every row that is filled, and what they do beside \
                 it is done, unless the role may set session_replication_role: {}",
                list(triggers)
            ),
        ));
    }
    let before = layout.old.triggers.iter().filter(|it| it.before);
    let before: Vec<&Name> = before.map(|it| &it.name).collect();
    if layout.downs().next().is_some() && !before.is_empty() {
        all.push(note(
            None,
            format!(
                "for rows that the new code writes, these triggers of {table} see what the old \
                 columns held before, until contract: {}",
                list(before)
            ),
        ));
    }
    all.extend(rules::hazards(layouts, layout));
    all
}

/// Whether a trigger's function seems to do more than to change the row that it is run for.
fn does_more(body: &str) -> bool {
    const WORDS: &[&str] = &["insert", "update", "delete", "perform", "execute", "call", "notify"];
    let code = body.lines().map(|line| line.split("--").next().unwrap_or_default());
    code.flat_map(|line| line.split(|it: char| it.is_whitespace() || it == ';'))
        .any(|word| WORDS.iter().any(|it| word.eq_ignore_ascii_case(it)))
}

fn note(at: Option<&Place>, what: String) -> Hazard {
    Hazard { weight: Weight::Note, at: at.cloned(), what }
}

fn warning(at: Option<&Place>, what: String) -> Hazard {
    Hazard { weight: Weight::Warning, at: at.cloned(), what }
}
