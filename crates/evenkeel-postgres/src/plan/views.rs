//! Views and triggers of the user's that depend on columns which go or are replaced.
//!
//! The server follows a rename by itself. What reads a column that another takes the place of is made
//! anew: beside the views of the new revision at once, so that the new code finds it, and in its
//! place at contract.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::put;
use crate::name::{Name, list, literal};
use crate::problem::{Place, Problem};
use crate::shape::{Shape, Trigger, View};
use crate::wanted::{Wanted, When};

/// The views that depend on what changes, those first that others read.
pub(super) struct Carried<'a> {
    /// All that have to go before the old shape does.
    pub(super) leaving: Vec<&'a View>,
    /// Those of them that are made anew as they were.
    pub(super) again: Vec<&'a View>,
}

/// Which views have to be made anew.
pub(super) fn carried<'a>(now: &'a Shape, wanted: &Wanted, layouts: &[Layout<'_>]) -> Carried<'a> {
    let mut going: BTreeSet<&Name> = BTreeSet::new();
    let mut carried = Carried { leaving: Vec::new(), again: Vec::new() };
    for view in in_order(now) {
        let dropped = wanted.dropped_views.contains(&view.name);
        let reads = view.reads.iter().any(|(of, columns)| {
            going.contains(of)
                || wanted.dropped.contains_key(of)
                || layouts.iter().any(|it| it.old.name == *of && goes(it, columns.iter()))
        });
        if dropped || reads {
            going.insert(&view.name);
            carried.leaving.push(view);
            if !dropped && !is_made(wanted, &view.name) {
                carried.again.push(view);
            }
        }
    }
    carried
}

/// What cannot be made anew.
pub(super) fn problems(now: &Shape, wanted: &Wanted, layouts: &[Layout<'_>]) -> Vec<Problem> {
    let mut all = Vec::new();
    for view in carried(now, wanted, layouts).again {
        let name = &view.name;
        let hint = format!(
            "say what becomes of it: add `DROP VIEW {name};`, and `CREATE VIEW {name} AS …` below \
             if it shall stay"
        );
        let place = |layout: Option<&Layout<'_>>, column: Option<&Name>| {
            let gone = layout.zip(column).and_then(|(it, column)| it.new.gone.get(column));
            gone.map_or_else(database, |it| it.at.clone())
        };
        for (of, columns) in &view.reads {
            if let Some(at) = wanted.dropped.get(of) {
                let problem = Problem::new(at, format!("the view {name} reads {of}, which goes"));
                all.push(problem.hint(hint.clone()));
            }
            let Some(layout) = layouts.iter().find(|it| it.old.name == *of) else { continue };
            for column in columns.iter().filter(|it| goes(layout, [*it].into_iter())) {
                if !layout.new.twins.contains_key(column) {
                    let at = place(Some(layout), Some(column));
                    let what = format!("the view {name} reads {of}.{column}, which goes");
                    all.push(Problem::new(&at, what).hint(hint.clone()));
                }
            }
        }
        if view.materialized {
            let what = format!("the materialized view {name} reads what changes");
            all.push(Problem::new(&database(), what).hint(format!(
                "say what becomes of it: add `DROP MATERIALIZED VIEW {name};` and \
                 `CREATE MATERIALIZED VIEW {name} AS …`"
            )));
        }
    }
    for layout in layouts {
        for (column, what) in &layout.old.spoken_of {
            if let Some(gone) = layout.new.gone.get(column) {
                let table = &layout.old.name;
                all.push(
                    Problem::new(
                        &gone.at,
                        format!("{what} speaks of {table}.{column}, which goes or is replaced"),
                    )
                    .hint("drop it before this statement, and make it anew below"),
                );
            }
        }
        for trigger in triggers(layout) {
            for column in trigger.columns.iter().filter(|it| goes(layout, [*it].into_iter())) {
                let Some(gone) = layout.new.gone.get(column) else { continue };
                if !layout.new.twins.contains_key(column) && !is_dropped(wanted, trigger) {
                    let (name, table) = (&trigger.name, &layout.old.name);
                    let what = format!("the trigger {name} names {table}.{column}, which goes");
                    let hint = format!("add `DROP TRIGGER {name} ON {table};`");
                    all.push(Problem::new(&gone.at, what).hint(hint));
                }
            }
        }
    }
    all
}

fn database() -> Place {
    Place { file: "the database".to_owned(), line: 1 }
}

/// Views, each after those that it reads.
fn in_order(now: &Shape) -> Vec<&View> {
    let mut all: Vec<&View> = Vec::new();
    let mut waiting: Vec<&View> = now.views.values().collect();
    while !waiting.is_empty() {
        let (ready, rest): (Vec<&View>, Vec<&View>) = waiting
            .iter()
            .partition(|view| !view.reads.keys().any(|of| waiting.iter().any(|it| it.name == *of)));
        // A view cannot read itself; if one seems to, the order does not matter.
        if ready.is_empty() {
            all.extend(rest);
            break;
        }
        all.extend(ready);
        waiting = rest;
    }
    all
}

/// Whether one of these columns of the old shape does not stay.
fn goes<'n>(layout: &Layout<'_>, mut columns: impl Iterator<Item = &'n Name>) -> bool {
    columns.any(|it| layout.new.gone.contains_key(it))
}

/// Whether the migration makes the view.
fn is_made(wanted: &Wanted, view: &Name) -> bool {
    let names = [view.to_string(), view.as_str().to_owned()];
    wanted
        .carried
        .iter()
        .filter_map(|it| it.when.per_revision())
        .any(|drop| names.iter().any(|name| drop.eq_ignore_ascii_case(&format!("VIEW {name}"))))
}

pub(super) fn is_dropped(wanted: &Wanted, trigger: &Trigger) -> bool {
    let says = |it: &str| {
        let words: Vec<&str> = it.split_whitespace().collect();
        let name = |it: &&str| it.trim_matches('"') == trigger.name.as_str();
        words.get(1).is_some_and(|it| it.eq_ignore_ascii_case("trigger")) && words.iter().any(name)
    };
    wanted.carried.iter().any(|it| it.when == When::Leaving && says(&it.sql))
}

/// Triggers of a table that have to be made anew, as their statement names a column that does not
/// stay.
pub(super) fn triggers<'a>(layout: &'a Layout<'_>) -> impl Iterator<Item = &'a Trigger> {
    layout.old.triggers.iter().filter(|it| goes(layout, it.columns.iter()))
}

/// The copies that the new code finds.
pub(super) fn copies(
    now: &Shape,
    carried: &Carried<'_>,
    layouts: &[Layout<'_>],
    views: &Name,
) -> Vec<String> {
    let mut all = Vec::new();
    for view in &carried.again {
        let mut with = Vec::new();
        for of in view.reads.keys() {
            let Some(layout) = layouts.iter().find(|it| it.old.name == *of) else { continue };
            if !layout.is_renamed() {
                continue;
            }
            // Under its old names, as the query has them, with the new values.
            let columns: Vec<String> = layout
                .old
                .columns
                .iter()
                .filter(|it| view.reads[of].contains(&it.name))
                .map(|it| match layout.new.twins.get(&it.name) {
                    Some(new) => format!("{} AS {}", layout.physical(new), it.name),
                    None => it.name.to_string(),
                })
                .collect();
            let table = layout.table();
            with.push(format!(
                "{of} AS NOT MATERIALIZED (SELECT {} FROM {table})",
                columns.join(", ")
            ));
        }
        let query = if with.is_empty() {
            view.query.clone()
        } else {
            format!("WITH {} SELECT * FROM ({}) AS _ek", with.join(", "), view.query)
        };
        all.extend(make(view, views, &query, now.version));
    }
    all
}

/// Makes the views anew where they were.
pub(super) fn again(now: &Shape, carried: &Carried<'_>) -> Vec<String> {
    let make = |view: &&View| {
        let mut all = make(view, &now.schema, &view.query, now.version);
        all.extend(view.triggers.iter().cloned());
        all
    };
    carried.again.iter().flat_map(make).collect()
}

/// The copies that the new code finds stay with it, of the views as they are now.
pub(super) fn again_copies(now: &Shape, carried: &Carried<'_>, views: &Name) -> Vec<String> {
    let of = |view: &&&View| !view.materialized;
    let copy = |view: &&View| {
        let query = format!("SELECT {} FROM {}.{}", list(&view.columns), now.schema, view.name);
        make(view, views, &query, now.version)
    };
    carried.again.iter().filter(of).flat_map(copy).collect()
}

fn make(view: &View, schema: &Name, query: &str, version: u32) -> Vec<String> {
    let name = &view.name;
    let mut options = view.options.clone();
    let copy = options.iter().any(|it| it.starts_with("check_option="));
    if copy {
        // It is for views that rows are written through in one way, as the copy need not be.
        options.retain(|it| !it.starts_with("check_option="));
    }
    let mut sql = format!("CREATE VIEW {schema}.{name} ({})", list(&view.columns));
    if !options.is_empty() {
        put(&mut sql, format_args!(" WITH ({})", options.join(", ")));
    }
    put(&mut sql, format_args!(" AS {query}"));
    let check = view.options.iter().find_map(|it| it.strip_prefix("check_option="));
    if let Some(check) = check.filter(|_| !query.starts_with("WITH ") && version > 0) {
        put(&mut sql, format_args!(" WITH {} CHECK OPTION", check.to_uppercase()));
    }
    let mut all = vec![sql, no_rights(&format!("{schema}.{name}"))];
    all.extend(view.grants.iter().map(|it| {
        let role = it.role.as_ref().map_or_else(|| "PUBLIC".to_owned(), Name::to_string);
        format!("GRANT {} ON {schema}.{name} TO {role}", it.right)
    }));
    all
}

/// Takes away the rights that a view has got by default; it has those of the one it stands for.
fn no_rights(view: &str) -> String {
    let body = format!(
        "DECLARE it record; BEGIN FOR it IN \
             SELECT DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC') AS role \
             FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a \
             LEFT JOIN pg_roles r ON r.oid = a.grantee \
             WHERE c.oid = {}::regclass AND a.grantee <> c.relowner \
         LOOP EXECUTE {} || it.role; END LOOP; END",
        literal(view),
        literal(&format!("REVOKE ALL ON {view} FROM ")),
    );
    format!("DO {}", literal(&body))
}
