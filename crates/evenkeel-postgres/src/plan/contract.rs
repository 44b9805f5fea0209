//! Contract: the old shape goes, the new one gets its names, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::{defaults, fresh_default, is_late, search_path};
use super::follow::{self, Follow};
use super::layout::Layout;
use super::tighten::{Fate, fate, index_fate, not_nulls};
use super::views::{self, Carried, triggers};
use super::{Phase, expand, handed, numbers, sync};
use crate::name::Name;
use crate::shape::{Made, Rule, Shape, Trigger};
use crate::wanted::{Wanted, When};

pub(super) fn contract(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    carried: &Carried<'_>,
    follows: &[Follow],
    views: &Name,
    before: Option<&Name>,
) -> Phase {
    let mut phase = Phase::default();
    let out = &mut phase.statements;
    out.push(search_path(&[&now.schema]));
    let hangs = handed::read(now, wanted, layouts, carried);
    let hands = !hangs.is_empty();
    out.extend(hangs);
    if let Some(before) = before {
        out.extend(expand::drop_views(before, &now.schema));
    }
    for layout in layouts {
        for (column, _) in defaults(layout) {
            let table = &layout.new.table.name;
            out.push(format!("ALTER VIEW {views}.{table} ALTER COLUMN {column} DROP DEFAULT"));
        }
        out.extend(sync::remove(layout));
    }
    out.extend(follows.iter().flat_map(|it| it.remove.iter().cloned()));
    let copies = carried.again.iter().rev();
    out.extend(copies.map(|it| format!("DROP VIEW {views}.{}", it.name)));
    for view in carried.leaving.iter().rev() {
        let what = if view.materialized { "MATERIALIZED VIEW" } else { "VIEW" };
        out.push(format!("DROP {what} {}.{}", now.schema, view.name));
    }
    for it in wanted.carried.iter().filter(|it| it.when == When::Leaving) {
        out.push(it.sql.clone());
    }
    for layout in layouts {
        out.extend(
            triggers(layout)
                .map(|it| format!("DROP TRIGGER IF EXISTS {} ON {}", it.name, layout.table())),
        );
    }
    for it in &wanted.carried {
        if let When::Uncoded { function } = &it.when
            && takes_rows(now, wanted, function)
        {
            out.push(it.sql.clone());
        }
    }
    for old in wanted.dropped.keys() {
        out.extend(leaving(now, old));
    }
    // Foreign keys first: what they point at goes after them.
    for foreign in [true, false] {
        for layout in layouts {
            out.extend(dropped_constraints(layouts, layout, foreign));
        }
    }
    if !wanted.dropped.is_empty() {
        let tables: Vec<String> =
            wanted.dropped.keys().map(|it| format!("{}.{it}", now.schema)).collect();
        out.push(format!("DROP TABLE {}", tables.join(", ")));
    }
    for layout in layouts {
        out.extend(columns(layout));
    }
    // They have the old names in them; the server follows when these change.
    out.extend(views::again(now, carried));
    for layout in layouts {
        let dropped = |it: &&Trigger| !views::is_dropped(wanted, it);
        out.extend(triggers(layout).filter(dropped).map(|it| it.definition.clone()));
    }
    if hands {
        out.push(handed::by_old_names());
    }
    for layout in layouts {
        out.extend(names(layouts, layout));
    }
    let renames = layouts
        .iter()
        .filter(|it| it.old.name != it.new.table.name)
        .map(|it| (it.old.name.clone(), it.new.table.name.clone()))
        .collect();
    for (from, to) in in_steps(renames) {
        out.push(format!("ALTER TABLE {}.{from} RENAME TO {to}", now.schema));
    }
    if hands {
        out.push(handed::by_new_names());
    }
    if !carried.again.is_empty() {
        out.push(search_path(&[views, &now.schema]));
        out.extend(views::again_copies(now, carried, views));
        out.extend(handed::to_copies(now, carried, views));
        out.push(search_path(&[&now.schema]));
    }
    for carried in &wanted.carried {
        let now = match &carried.when {
            When::PerRevision { .. } | When::End => true,
            When::Uncoded { function } => !takes_rows(now, wanted, function),
            When::Expanded { .. } => is_late(layouts, carried),
            When::Beginning { .. }
            | When::Alone
            | When::Granted
            | When::Made { .. }
            | When::Data { .. }
            | When::Leaving => false,
        };
        if now {
            out.push(carried.sql.clone());
        }
    }
    phase.locks = layouts
        .iter()
        .filter(|it| is_touched(layouts, it))
        .map(Layout::table)
        .chain(wanted.dropped.keys().map(|it| format!("{}.{it}", now.schema)))
        .collect();
    follow::lock(follows, &mut phase.locks);
    phase
}

/// Whether a function takes or gives rows of a table that goes.
fn takes_rows(now: &Shape, wanted: &Wanted, function: &Name) -> bool {
    let tables = now.rows_of.get(function);
    tables.is_some_and(|it| it.iter().any(|it| wanted.dropped.contains_key(it)))
}

/// Whether contract changes a table at all.
fn is_touched(layouts: &[Layout<'_>], layout: &Layout<'_>) -> bool {
    layout.old.name != layout.new.table.name
        || !dropped_constraints(layouts, layout, true).is_empty()
        || !dropped_constraints(layouts, layout, false).is_empty()
        || !columns(layout).is_empty()
        || !names(layouts, layout).is_empty()
        || layout.is_synced()
}

/// Foreign keys of a table that goes, which may point at others that go.
fn leaving(now: &Shape, old: &Name) -> Vec<String> {
    let Some(table) = now.tables.get(old) else { return Vec::new() };
    let foreign = table.constraints.iter().filter(|it| matches!(it.rule, Rule::Foreign { .. }));
    foreign
        .map(|it| format!("ALTER TABLE {}.{old} DROP CONSTRAINT IF EXISTS {}", now.schema, it.name))
        .collect()
}

/// Old constraints and indexes that the new shape does not have, or has built anew.
fn dropped_constraints(layouts: &[Layout<'_>], layout: &Layout<'_>, foreign: bool) -> Vec<String> {
    let mut stay = BTreeSet::new();
    for constraint in &layout.new.table.constraints {
        if let Fate::Stays { old } = fate(layouts, layout, constraint) {
            stay.insert(old);
        }
    }
    let mut all: Vec<String> = layout
        .old
        .constraints
        .iter()
        .filter(|it| matches!(it.rule, Rule::Foreign { .. }) == foreign)
        .filter(|it| !stay.contains(&it.name))
        .map(|it| format!("ALTER TABLE {} DROP CONSTRAINT {}", layout.table(), it.name))
        .collect();
    if !foreign {
        let mut stay = BTreeSet::new();
        for index in &layout.new.table.indexes {
            if let Fate::Stays { old } = index_fate(layout, &index.name) {
                stay.insert(old);
            }
        }
        let gone = layout.old.indexes.iter().filter(|it| !stay.contains(&it.name));
        all.extend(gone.map(|it| format!("DROP INDEX {}.{}", layout.schema, it.name)));
    }
    all
}

/// What is done to the columns of one table that stays. Those that took another's place have its name
/// afterwards.
fn columns(layout: &Layout<'_>) -> Vec<String> {
    let table = layout.table();
    let mut all = Vec::new();
    let mut alter = |what: String| all.push(format!("ALTER TABLE {table} {what}"));

    // The check has been read for every row, so nothing is read again.
    for (column, check) in not_nulls(layout) {
        alter(format!("ALTER COLUMN {column} SET NOT NULL"));
        alter(format!("DROP CONSTRAINT {check}"));
    }
    for what in numbers::taken_over(layout) {
        all.push(what);
    }
    let mut alter = |what: String| all.push(format!("ALTER TABLE {table} {what}"));
    for name in layout.new.gone.keys() {
        alter(format!("DROP COLUMN {name}"));
    }
    all.extend(numbers::named(layout));
    let mut alter = |what: String| all.push(format!("ALTER TABLE {table} {what}"));
    for marker in layout.fresh.iter().filter_map(|it| it.marker.as_ref()) {
        alter(format!("DROP COLUMN {marker}"));
    }
    for (old, new) in &layout.new.twins {
        alter(format!("RENAME COLUMN {} TO {old}", layout.physical(new)));
    }
    all
}

/// All that is there gets the name that it has in the new shape.
fn names(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<String> {
    let table = layout.table();
    let mut all = Vec::new();
    let mut alter = |what: String| all.push(format!("ALTER TABLE {table} {what}"));
    let mut renames = layout.renames();
    for (old, new) in &layout.new.twins {
        renames.remove(&layout.physical(new));
        if old != new {
            renames.insert(old.clone(), new.clone());
        }
    }
    for (from, to) in in_steps(renames) {
        alter(format!("RENAME COLUMN {from} TO {to}"));
    }
    for (column, default) in wanted_defaults(layout) {
        match default {
            Some(default) => alter(format!("ALTER COLUMN {column} SET DEFAULT {default}")),
            None => alter(format!("ALTER COLUMN {column} DROP DEFAULT")),
        }
    }
    let mut renamed = BTreeMap::new();
    for constraint in &layout.new.table.constraints {
        let name = &constraint.name;
        match (fate(layouts, layout, constraint), &constraint.rule) {
            (Fate::Stays { old }, _) => {
                renamed.insert(old, name.clone());
            }
            (Fate::Built { physical }, Rule::Primary { .. }) => {
                alter(format!("ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {physical}"));
            }
            (Fate::Built { physical }, Rule::Unique { rest, .. }) => {
                let rest = constraint_part(rest);
                alter(format!("ADD CONSTRAINT {name} UNIQUE USING INDEX {physical}{rest}"));
            }
            (Fate::Built { physical }, Rule::Check { .. } | Rule::Foreign { .. }) => {
                renamed.insert(physical, name.clone());
            }
            (Fate::Built { .. }, Rule::Other { .. }) => {}
        }
    }
    renamed.retain(|from, to| from != to);
    for (from, to) in in_steps(renamed) {
        alter(format!("RENAME CONSTRAINT {from} TO {to}"));
    }
    let mut renamed = BTreeMap::new();
    for index in &layout.new.table.indexes {
        let from = match index_fate(layout, &index.name) {
            Fate::Stays { old } => old,
            Fate::Built { physical } => physical,
        };
        renamed.insert(from, index.name.clone());
    }
    renamed.retain(|from, to| from != to);
    for (from, to) in in_steps(renamed) {
        all.push(format!("ALTER INDEX {}.{from} RENAME TO {to}", layout.schema));
    }
    all
}

/// What of a unique constraint is its own, and not its index's.
fn constraint_part(rest: &str) -> &'static str {
    let lower = rest.to_lowercase();
    match (lower.contains("initially deferred"), lower.contains("deferrable")) {
        (true, _) => " DEFERRABLE INITIALLY DEFERRED",
        (false, true) if !lower.contains("not deferrable") => " DEFERRABLE",
        (false, _) => "",
    }
}

/// Defaults that the table has otherwise than the new shape wants them, by their new names.
fn wanted_defaults(layout: &Layout<'_>) -> Vec<(Name, Option<String>)> {
    let plain: BTreeSet<&Name> = layout.plain().map(|it| &it.name).collect();
    let mut all = Vec::new();
    for column in &layout.new.table.columns {
        let identity = match column.made {
            Made::IdentityAlways | Made::IdentityByDefault | Made::Computed => true,
            Made::Written | Made::Serial => false,
        };
        if identity {
            continue;
        }
        if plain.contains(&column.name) {
            if layout.new.passing.contains_key(&column.name) {
                let default = column.default.as_ref().map(|it| it.text().to_owned());
                all.push((column.name.clone(), default));
            }
            continue;
        }
        match layout.fresh.iter().find(|it| it.name == column.name) {
            Some(it) => {
                if let Some(default) = fresh_default(layout, it) {
                    all.push((column.name.clone(), Some(default)));
                }
            }
            None => {
                let old = layout.old.column(&layout.physical(&column.name));
                let before = old.and_then(|it| it.default.as_ref());
                if before != column.default.as_ref() {
                    let default = column.default.as_ref().map(|it| it.text().to_owned());
                    all.push((column.name.clone(), default));
                }
            }
        }
    }
    all
}

/// Renames in an order in which no name is taken; those that go round in a circle by way of a name
/// that nobody has.
fn in_steps(mut renames: BTreeMap<Name, Name>) -> Vec<(Name, Name)> {
    let mut steps = Vec::new();
    while !renames.is_empty() {
        let free = renames.iter().find(|(_, to)| !renames.contains_key(*to));
        match free.map(|(from, to)| (from.clone(), to.clone())) {
            Some((from, to)) => {
                renames.remove(&from);
                steps.push((from, to));
            }
            None => {
                let Some((from, to)) = renames.pop_first() else { break };
                let aside = Name::made(&["_ek", from.as_str()]);
                steps.push((from, aside.clone()));
                renames.insert(aside, to);
            }
        }
    }
    steps
}
