//! From two shapes to a plan.

use super::layout::{Fresh, Layout};
use super::{
    Backfill, Copied, Plan, contract, expand, follow, hazard, keep, sync, tighten, undo, views,
    views_of,
};
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::{Column, Expression, Made, Rule, Shape, Table};
use crate::wanted::{self, Carried, Source, Wanted, When};

pub(super) fn derive(
    now: &Shape,
    wanted: &Wanted,
    revision: u32,
    before: Option<Name>,
) -> Result<Plan, Vec<Problem>> {
    let layouts = layouts(now, wanted, revision);
    let mut problems: Vec<Problem> =
        layouts.iter().flat_map(|layout| problems(now, layout)).collect();
    problems.extend(layouts.iter().flat_map(|layout| unlike(&layouts, layout)));
    problems.extend(taken(now, wanted));
    problems.extend(views::problems(now, wanted, &layouts));
    if !problems.is_empty() {
        return Err(problems);
    }
    let carried = views::carried(now, wanted, &layouts);
    let views = views_of(&now.schema, revision);
    let follows = follow::all(now, wanted, &layouts, &views);
    Ok(Plan {
        revision,
        schema: now.schema.clone(),
        expand: expand::expand(now, wanted, &layouts, &carried, &follows, &views),
        backfills: layouts.iter().filter_map(backfill).collect(),
        copies: copies(now, wanted),
        data: data(now, wanted, &layouts, &views),
        tighten: tighten::steps(&layouts),
        contract: contract::contract(
            now,
            wanted,
            &layouts,
            &carried,
            &follows,
            &views,
            before.as_ref(),
        ),
        undo: undo::undo(now, wanted, &layouts, &follows, &views),
        hazards: hazard::hazards(now, wanted, &layouts, before.as_ref()),
        loses: loses(wanted, &layouts),
        files: Vec::new(),
        changes: Vec::new(),
        views,
        before,
    })
}

/// The rows of new tables that come from old ones.
fn copies(now: &Shape, wanted: &Wanted) -> Vec<Copied> {
    // A column may have been named by another name of its table.
    let plain = |it: &Expression| it.with(Name::to_string);
    let size = |from: &Name| now.tables.get(from).map(|it| it.size).unwrap_or_default();
    let one = |name: &Name, it: &wanted::Copied| Copied {
        into: format!("{}.{name}", now.schema),
        from: format!("{}.{}", now.schema, it.from),
        columns: crate::name::list(it.columns.iter().map(|(name, _)| name)),
        values: it.columns.iter().map(|(_, it)| plain(it)).collect::<Vec<_>>().join(", "),
        when: it.when.as_ref().map_or_else(|| "true".to_owned(), plain),
        rows: size(&it.from).rows,
        bytes: size(&it.from).bytes,
    };
    let tables = wanted.tables.iter();
    tables.flat_map(|(name, table)| table.copies.iter().map(move |it| one(name, it))).collect()
}

/// The tables that are there and stay.
pub(super) fn layouts<'a>(now: &'a Shape, wanted: &'a Wanted, revision: u32) -> Vec<Layout<'a>> {
    let tables = wanted.tables.values().filter_map(|new| {
        let old = now.tables.get(new.was.as_ref()?)?;
        let mut layout = Layout::of(now, old, new, revision);
        layout.touched = keep::is_needed(wanted, &layout);
        Some(layout)
    });
    tables.collect()
}

/// What code of the old shape may name and the new one does not have under that name.
fn loses(wanted: &Wanted, layouts: &[Layout<'_>]) -> Vec<String> {
    let mut all: Vec<String> = wanted.dropped.keys().map(|it| it.as_str().to_owned()).collect();
    for layout in layouts {
        let table = layout.old.name.as_str();
        if layout.old.name != layout.new.table.name {
            all.push(table.to_owned());
            continue;
        }
        for column in &layout.old.columns {
            if layout.new.table.column(&column.name).is_none() {
                all.push(format!("{table}.{}", column.name.as_str()));
            }
        }
    }
    all
}

/// Indexes of new tables whose names others have until contract.
fn taken(now: &Shape, wanted: &Wanted) -> Vec<Problem> {
    let keyed = |it: &Rule| matches!(it, Rule::Primary { .. } | Rule::Unique { .. });
    let owner = |name: &Name| {
        now.tables.values().find(|table| {
            table.index(name).is_some() || table.constraint(name).is_some_and(|it| keyed(&it.rule))
        })
    };
    let mut all = Vec::new();
    for new in wanted.tables.values().filter(|it| it.is_new()) {
        let keys = new.table.constraints.iter().filter(|it| keyed(&it.rule)).map(|it| &it.name);
        let at = new.columns.values().find_map(|it| match it {
            Source::New { at, .. } => Some(at.clone()),
            Source::Kept { .. } => None,
        });
        for name in keys.chain(new.table.indexes.iter().map(|it| &it.name)) {
            if let (Some(table), Some(at)) = (owner(name), &at) {
                let what = format!(
                    "{name} of {} is called as an index of {} is, until contract",
                    new.table.name, table.name
                );
                all.push(Problem::new(at, what).hint("give it another name"));
            }
        }
    }
    all
}

/// What cannot be done in a way that blocks nobody and can be undone.
fn problems(now: &Shape, layout: &Layout<'_>) -> Vec<Problem> {
    let mut all = Vec::new();
    let table = &layout.old.name;
    for it in &layout.fresh {
        let problem = |what: String| Problem::new(&it.at, what);
        if it.column.not_null && it.up.is_none() && it.first.is_none() {
            all.push(
                problem(format!(
                    "{table}.{} is NOT NULL: what shall rows have that are there already, and \
                     those that the old code writes?",
                    it.name
                ))
                .hint("add beside it: `-- up: <expression over the columns that are there>`"),
            );
        }
        let identity = matches!(it.column.made, Made::IdentityAlways | Made::IdentityByDefault);
        if identity && !is_whole(&it.column) {
            all.push(
                problem(format!(
                    "{table}.{} is an identity, which is a smallint, an integer or a bigint, and no {}",
                    it.name, it.column.kind
                ))
                .hint(format!("`ALTER COLUMN {} TYPE bigint`", it.name)),
            );
        }
        if (layout.old.partitioned || layout.old.inherited) && expand::is_filled(now, it) {
            let how =
                if layout.old.partitioned { "is partitioned" } else { "inherits or is inherited" };
            all.push(problem(format!(
                "{table} {how}, and filling {} there is not modelled",
                it.name
            )));
        }
        let computed = it
            .up
            .iter()
            .flat_map(|up| up.columns())
            .find(|name| layout.old.column(name).is_some_and(|it| it.made == Made::Computed));
        if let Some(source) = computed {
            all.push(problem(format!(
                "{} is filled from {source}, which the server computes only after triggers have \
                 run; write out what it is computed from",
                it.name
            )));
        }
        let other = layout.new.table.constraints.iter().find(|constraint| {
            matches!(constraint.rule, Rule::Other { .. })
                && constraint.rule.columns().contains(&it.name)
        });
        if let Some(constraint) = other {
            all.push(problem(format!(
                "{} is part of {}, which cannot be built beside the old one",
                it.name, constraint.name
            )));
        }
    }
    if layout.old.partitioned {
        let built = tighten::built(layout);
        if !built.is_empty() {
            let at = crate::problem::Place { file: "the database".to_owned(), line: 1 };
            let what = format!(
                "{table} is partitioned, and building {} there without blocking is not modelled",
                crate::name::list(&built)
            );
            all.push(Problem::new(&at, what).hint(
                "build it on each partition CONCURRENTLY and attach it, with `-- undo: …` above each \
                 statement",
            ));
        }
    }
    if layout.old.guarded && now.version < 15 {
        let at = crate::problem::Place { file: "the database".to_owned(), line: 1 };
        all.push(
            Problem::new(
                &at,
                format!(
                    "{table} has row level security, and views of PostgreSQL \
                {} would get around it",
                    now.version
                ),
            )
            .hint("PostgreSQL 15 has views that keep to it"),
        );
    }
    all
}

/// Foreign keys whose columns have such types afterwards that none can point at the other.
fn unlike(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<Problem> {
    let mut all = Vec::new();
    for constraint in &layout.new.table.constraints {
        let Rule::Foreign { columns, table, to, .. } = &constraint.rule else { continue };
        let Some(there) = layouts.iter().find(|it| it.new.table.name == *table) else { continue };
        let to = if to.is_empty() { there.new.table.key() } else { to };
        for (from, to) in columns.iter().zip(to) {
            let fresh = |layout: &Layout<'_>, name: &Name| {
                layout.fresh.iter().find(|it| it.name == *name).map(|it| it.at.clone())
            };
            let Some(at) = fresh(layout, from).or_else(|| fresh(there, to)) else { continue };
            let kind = |table: &Table, name| table.column(name).map(|it| it.kind.clone());
            if let (Some(is), Some(other)) =
                (kind(&layout.new.table, from), kind(&there.new.table, to))
                && !is.may_point_at(&other)
            {
                let name = &layout.new.table.name;
                let what = format!(
                    "{} cannot point from {name}.{from} ({is}) at {table}.{to} ({other})",
                    constraint.name
                );
                all.push(Problem::new(&at, what).hint("change both in the same migration"));
            }
        }
    }
    all
}

/// Statements that write rows, with where they look for names: the shape that they speak of.
fn data(now: &Shape, wanted: &Wanted, layouts: &[Layout<'_>], views: &Name) -> Vec<String> {
    let carried = wanted.carried.iter().filter(|it| matches!(it.when, When::Data { .. }));
    let sql = |it: &Carried| {
        // What the new shape does not show only the table has.
        let gone = layouts.iter().any(|layout| {
            expand::names(&it.sql, &layout.old.name)
                && layout.new.gone.keys().any(|column| {
                    layout.new.table.column(column).is_none() && expand::names(&it.sql, column)
                })
        });
        // What only a table can do or has.
        let own = ["truncate", "ctid", "xmin", "constraint"].map(Name::new);
        let own = own.iter().any(|word| expand::names(&it.sql, word));
        let path = if gone || own { vec![&now.schema] } else { vec![views, &now.schema] };
        format!("{}; {}", expand::search_path(&path), it.sql)
    };
    carried.map(sql).collect()
}

/// How the rows of a table that are there get their new values.
fn backfill(layout: &Layout<'_>) -> Option<Backfill> {
    let filled: Vec<&Fresh> = layout.fresh.iter().filter(|it| it.up.is_some()).collect();
    // With the table before it, a column is not taken for one of a query within an expression.
    let row = format!("{}.", layout.old.name);
    let lacking = filled.iter().filter_map(|it| sync::lacking(it, &row));
    let lacking: Vec<String> = lacking.map(|it| format!("({it})")).collect();
    if lacking.is_empty() {
        return None;
    }
    let set: Vec<String> = filled.iter().filter_map(|it| assignment(it, &row)).collect();
    // Numbers that follow one another on a page give every turn as many of its rows. Of others, and
    // of rows without a key, it is their place.
    let turn = match layout.old.key() {
        [key] if layout.old.column(key).is_some_and(is_whole) => key.to_string(),
        _ => "hashtid(ctid)".to_owned(),
    };
    Some(Backfill {
        table: layout.table(),
        set: set.join(", "),
        lacking: lacking.join(" OR "),
        turn,
        columns: filled.iter().map(|it| it.physical.clone()).collect(),
        indexes: layout.old.entries(),
        rows: layout.old.size.rows,
        bytes: layout.old.size.bytes,
    })
}

fn is_whole(column: &Column) -> bool {
    matches!(column.kind.as_str(), "smallint" | "integer" | "bigint")
}

/// A value that is there is kept, and so is a NULL that was meant.
fn assignment(it: &Fresh, row: &str) -> Option<String> {
    let (name, up) = (&it.physical, it.up.as_ref()?);
    let up = up.with(|name| format!("{row}{name}"));
    Some(match &it.marker {
        Some(marker) => format!(
            "{name} = CASE WHEN {name} IS NULL AND {marker} IS NULL THEN ({up}) ELSE {name} END"
        ),
        None => format!("{name} = coalesce({name}, ({up}))"),
    })
}
