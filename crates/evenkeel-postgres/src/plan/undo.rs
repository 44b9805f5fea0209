//! Undo: the new shape goes, in one transaction. What was written through it into what both shapes
//! have stays; the old shape was kept in step all the time.

use super::follow::{self, Follow};
use super::layout::Layout;
use super::tighten::{Fate, fate, index_fate, not_nulls};
use super::{Phase, expand, sync};
use crate::name::Name;
use crate::shape::{Rule, Shape};
use crate::wanted::{Wanted, When};

pub(super) fn undo(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    follows: &[Follow],
    views: &Name,
) -> Phase {
    let mut locks = layouts
        .iter()
        .filter(|it| {
            it.is_changed() || !rules(layouts, it).is_empty() || !pointers(layouts, it).is_empty()
        })
        .map(Layout::table)
        .collect();
    follow::lock(follows, &mut locks);
    let mut phase = Phase { locks, ..Phase::default() };
    let out = &mut phase.statements;
    out.push(expand::search_path(&[&now.schema]));
    out.extend(expand::drop_views(views, &now.schema));
    for carried in wanted.carried.iter().rev() {
        if let When::Expanded { undo: Some(undo) } = &carried.when
            && !expand::is_late(layouts, carried)
        {
            out.push(undo.clone());
        }
        if let When::Data { undo: Some(undo), .. } = &carried.when {
            out.push(undo.clone());
        }
        if let When::Made { undo } = &carried.when {
            out.push(format!("{undo} CASCADE"));
        }
    }
    out.extend(follows.iter().flat_map(|it| it.remove.iter().cloned()));
    for layout in layouts {
        out.extend(sync::remove(layout));
        out.extend(pointers(layouts, layout));
    }
    for layout in layouts {
        out.extend(rules(layouts, layout));
    }
    let made: Vec<String> = wanted
        .tables
        .values()
        .filter(|it| it.is_new())
        .map(|it| format!("{}.{}", now.schema, it.table.name))
        .collect();
    if !made.is_empty() {
        out.push(format!("DROP TABLE IF EXISTS {}", made.join(", ")));
    }
    for layout in layouts {
        let columns: Vec<String> = layout
            .fresh
            .iter()
            .flat_map(|it| std::iter::once(&it.physical).chain(&it.marker))
            .map(|it| format!("DROP COLUMN {it}"))
            .collect();
        if !columns.is_empty() {
            out.push(format!("ALTER TABLE {} {}", layout.table(), columns.join(", ")));
        }
        let sequences = layout.fresh.iter().filter_map(|it| it.made.as_ref());
        out.extend(sequences.map(|it| format!("DROP SEQUENCE {it}")));
    }
    for carried in wanted.carried.iter().rev() {
        if let When::Beginning { undo: Some(undo) } = &carried.when {
            out.push(undo.clone());
        }
    }
    phase
}

/// Foreign keys of the new shape that may have been built, which go before what any of them points at.
fn pointers(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<String> {
    let table = layout.table();
    let mut all = Vec::new();
    for constraint in &layout.new.table.constraints {
        if let Rule::Foreign { .. } = constraint.rule
            && let Fate::Built { physical } = fate(layouts, layout, constraint)
        {
            all.push(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {physical}"));
        }
    }
    all
}

/// The other rules of the new shape that may have been built.
fn rules(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<String> {
    let table = layout.table();
    let mut all = Vec::new();
    for (_, check) in not_nulls(layout) {
        all.push(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}"));
    }
    let index = |name: &Name| format!("DROP INDEX IF EXISTS {}.{name}", layout.schema);
    let mut indexes = Vec::new();
    for constraint in &layout.new.table.constraints {
        let Fate::Built { physical } = fate(layouts, layout, constraint) else { continue };
        match constraint.rule {
            Rule::Primary { .. } | Rule::Unique { .. } => indexes.push(index(&physical)),
            Rule::Check { .. } => {
                all.push(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {physical}"));
            }
            Rule::Foreign { .. } | Rule::Other { .. } => {}
        }
    }
    for it in &layout.new.table.indexes {
        if let Fate::Built { physical } = index_fate(layout, &it.name) {
            indexes.push(index(&physical));
        }
    }
    all.extend(indexes);
    all
}
