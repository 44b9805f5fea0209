//! Expand: the new shape beside the old one, in one transaction.

use std::collections::BTreeSet;

use super::follow::{self, Follow};
use super::layout::{Fresh, Layout, is_volatile, next_value};
use super::views::{self, Carried};
use super::{Phase, handed, put, sync};
use crate::name::{Name, list, literal};
use crate::shape::{Column, Expression, Made, Shape};
use crate::wanted::{self, Wanted, WantedTable, When};

/// Security by the rights of whoever asks, for views.
const INVOKER_SINCE: u32 = 15;

pub(super) fn expand(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    carried: &Carried<'_>,
    follows: &[Follow],
    views: &Name,
) -> Phase {
    let mut phase = Phase::default();
    phase.first.push(search_path(&[&now.schema]));
    if wanted.carried.iter().any(|it| it.sql.to_lowercase().contains("function")) {
        // One may speak of what is only there later on.
        phase.first.push("SET LOCAL check_function_bodies = off".to_owned());
    }
    for carried in &wanted.carried {
        match carried.when {
            When::Beginning { .. } => phase.first.push(carried.sql.clone()),
            When::Alone => phase.alone.push(format!(
                "BEGIN; {}; {}; COMMIT",
                search_path(&[&now.schema]),
                carried.sql
            )),
            When::PerRevision { .. }
            | When::Expanded { .. }
            | When::Granted
            | When::Made { .. }
            | When::Data { .. }
            | When::Uncoded { .. }
            | When::Leaving
            | When::End => {}
        }
    }
    phase.first.push(format!("CREATE SCHEMA {views}"));
    let is_fresh = |table: &WantedTable| {
        let layout = layouts.iter().find(|it| it.new.table.name == table.table.name);
        layout.is_none_or(Layout::is_changed)
    };
    // A table that is not changed need not be locked for its view.
    for table in wanted.tables.values().filter(|it| !is_fresh(it)) {
        phase.first.extend(view(now, table, layouts, views));
    }
    for layout in layouts.iter().filter(|it| it.is_changed()) {
        phase.first.extend(sync::functions(layout, views));
        phase.locks.push(layout.table());
        phase.statements.extend(columns(layout));
        phase.statements.extend(sync::triggers(layout));
    }
    follow::lock(follows, &mut phase.locks);
    phase.first.extend(follows.iter().map(|it| it.function.clone()));
    phase.statements.extend(wanted.made.iter().cloned());
    for table in wanted.tables.values().filter(|it| is_fresh(it)) {
        phase.statements.extend(view(now, table, layouts, views));
    }
    phase.statements.extend(follows.iter().flat_map(|it| it.triggers.iter().cloned()));
    phase.statements.extend(layouts.iter().flat_map(ups));
    // What the old columns are filled from is looked up where the new code looks.
    phase.statements.push(search_path(&[views, &now.schema]));
    phase.statements.extend(layouts.iter().flat_map(downs));
    phase.statements.push(search_path(&[&now.schema]));
    phase.statements.extend(usage(wanted, views));
    let late = wanted.carried.iter().filter(|it| {
        let expanded = matches!(it.when, When::Expanded { .. }) && !is_late(layouts, it);
        expanded || it.when == When::Granted
    });
    phase.statements.extend(late.map(|it| it.sql.clone()));
    if wanted.carried.iter().any(|it| it.when == When::Granted) {
        let tables = wanted.tables.values();
        phase.statements.extend(tables.map(|it| copied_grants(now, it, views)));
    }
    let per_revision = wanted.carried.iter().any(|it| matches!(it.when, When::PerRevision { .. }));
    if per_revision || !carried.again.is_empty() {
        phase.statements.push(search_path(&[views, &now.schema]));
        phase.statements.extend(views::copies(now, carried, layouts, views));
        phase.statements.extend(handed::to_copies(now, carried, views));
        for carried in &wanted.carried {
            if let When::PerRevision { drop } = &carried.when {
                phase.statements.push(carried.sql.clone());
                match drop.as_deref().map(|it| it.strip_prefix("VIEW ")) {
                    Some(Some(view)) => phase.statements.push(default_grants(now, views, view)),
                    Some(None) => {}
                    // Whoever gets a right may look into the schema.
                    None => phase.statements.extend(
                        granted_to(&carried.sql)
                            .map(|role| format!("GRANT USAGE ON SCHEMA {views} TO {role}")),
                    ),
                }
            }
        }
    }
    phase
}

/// Whether something about a table can only be done at the end, as it may name columns as they are
/// called then.
pub(super) fn is_late(layouts: &[Layout<'_>], carried: &wanted::Carried) -> bool {
    layouts.iter().any(|it| {
        let renamed = it.renames().iter().any(|(_, new)| names(&carried.sql, new))
            || it.old.name != it.new.table.name;
        renamed && names(&carried.sql, &it.new.table.name)
    })
}

/// Whether a text has a name in it, as a word.
pub(super) fn names(text: &str, name: &Name) -> bool {
    let word = |it: char| it.is_alphanumeric() || it == '_';
    let (text, name) = (text.to_lowercase(), name.as_str().to_lowercase());
    text.match_indices(&name)
        .any(|(at, _)| !text[..at].ends_with(word) && !text[at + name.len()..].starts_with(word))
}

/// Takes the views of a revision away, and nothing else: what code has made there, because it comes
/// first where it looks, goes on in the schema of the tables; and where something elsewhere reads by
/// the views, it is said instead.
pub(super) fn drop_views(views: &Name, schema: &Name) -> [String; 2] {
    let body = format!(
        "DECLARE it record;
         BEGIN
           FOR it IN
             SELECT c.oid::regclass::text AS name,
                    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE'
                                   WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS what
             FROM pg_class c
             WHERE c.relnamespace = to_regnamespace({views})
               AND (c.relkind IN ('r', 'p', 'f', 'm') OR c.relkind = 'S' AND NOT EXISTS (
                     SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                     AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
           LOOP
             EXECUTE 'ALTER ' || it.what || ' ' || it.name || ' SET SCHEMA ' || {schema};
           END LOOP;
           FOR it IN
             SELECT v.oid::regclass::text AS name
             FROM pg_depend d
             JOIN pg_rewrite r ON r.oid = d.objid
             JOIN pg_class v ON v.oid = r.ev_class
             JOIN pg_class t ON t.oid = d.refobjid
             WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
               AND t.relnamespace = to_regnamespace({views})
               AND v.relnamespace <> t.relnamespace
           LOOP
             RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE =
               'view ' || it.name || ' reads by ' || {views}
               || ', which goes: drop it, or let it read the tables themselves';
           END LOOP;
         END",
        views = literal(&views.to_string()),
        schema = literal(&schema.to_string()),
    );
    [format!("DO {}", literal(&body)), format!("DROP SCHEMA IF EXISTS {views} CASCADE")]
}

/// Where names are looked for from now on in the transaction.
pub(super) fn search_path(schemas: &[&Name]) -> String {
    format!("SET LOCAL search_path = {}", list(schemas.iter().copied()))
}

/// The roles that a `GRANT` names.
fn granted_to(sql: &str) -> Option<&str> {
    let end = sql.to_ascii_lowercase().find(" with grant option").unwrap_or(sql.len());
    let at = sql[..end].to_ascii_lowercase().rfind(" to ")?;
    Some(sql[at + 4..end].trim())
}

/// The new columns of a table.
fn columns(layout: &Layout<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut added = Vec::new();
    let plain: BTreeSet<&Name> = layout.plain().map(|it| &it.name).collect();
    for it in &layout.fresh {
        if let Some(sequence) = &it.made {
            let kind = &it.column.kind;
            all.push(format!("CREATE SEQUENCE {sequence} AS {kind}"));
            // Whoever writes rows takes its numbers.
            let writers = layout.old.grants.iter().filter(|it| it.right == "INSERT");
            all.extend(writers.map(|it| {
                format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", role(it.role.as_ref()))
            }));
        }
        let mut one = format!("ADD COLUMN {} {}", it.physical, typed(&it.column));
        // Anything else would have to be computed for every row, and everybody would wait.
        if plain.contains(&it.name)
            && let Some(default) = &it.first
        {
            put(&mut one, format_args!(" DEFAULT {}", default.text()));
            if it.column.not_null {
                one.push_str(" NOT NULL");
            }
        }
        added.push(one);
        added.extend(it.marker.as_ref().map(|it| format!("ADD COLUMN {it} boolean")));
    }
    if !added.is_empty() {
        all.push(format!("ALTER TABLE {} {}", layout.table(), added.join(", ")));
    }
    // Who may read or write a column may do so with the one that takes its place.
    for (old, grant) in &layout.old.column_grants {
        if let Some(new) = layout.new.twins.get(old) {
            let (column, role) = (layout.physical(new), role(grant.role.as_ref()));
            let table = layout.table();
            all.push(format!("GRANT {} ({column}) ON {table} TO {role}", grant.right));
        }
    }
    all
}

fn typed(column: &Column) -> String {
    match &column.collation {
        Some(collation) => format!("{} COLLATE {collation}", column.kind),
        None => column.kind.to_string(),
    }
}

/// Lets the server look at each expression, before any of it is run for a row.
fn ups(layout: &Layout<'_>) -> Vec<String> {
    let look = |it: &Fresh| {
        let up = it.up.as_ref()?.with(|name| format!("{}.{name}", layout.old.name));
        Some(format!("SELECT ({up}) FROM ONLY {} LIMIT 0", layout.table()))
    };
    layout.fresh.iter().filter_map(look).collect()
}

fn downs(layout: &Layout<'_>) -> Vec<String> {
    let look = |(_, down): (&Name, &Expression)| {
        let down = down.with(|name| format!("{}.{}", layout.old.name, layout.physical(name)));
        format!("SELECT ({down}) FROM ONLY {} LIMIT 0", layout.table())
    };
    layout.downs().map(look).collect()
}

/// Whoever may use a table may look into the schema of its view.
fn usage(wanted: &Wanted, views: &Name) -> Vec<String> {
    let tables = wanted.tables.values().map(|it| &it.table);
    let of_columns = tables.clone().flat_map(|it| it.column_grants.iter().map(|(_, it)| it));
    let grants = tables.flat_map(|it| &it.grants).chain(of_columns);
    let roles: BTreeSet<String> = grants.map(|it| role(it.role.as_ref())).collect();
    roles.into_iter().map(|role| format!("GRANT USAGE ON SCHEMA {views} TO {role}")).collect()
}

fn role(role: Option<&Name>) -> String {
    role.map_or_else(|| "PUBLIC".to_owned(), Name::to_string)
}

/// The view of one table in the schema of the new revision.
fn view(now: &Shape, table: &WantedTable, layouts: &[Layout<'_>], views: &Name) -> Vec<String> {
    let name = &table.table.name;
    let layout = layouts.iter().find(|it| it.new.table.name == *name);
    let columns: Vec<String> = table
        .table
        .columns
        .iter()
        .map(|column| match layout {
            Some(layout) => {
                let physical = layout.physical(&column.name);
                if physical == column.name {
                    physical.to_string()
                } else {
                    format!("{physical} AS {}", column.name)
                }
            }
            None => column.name.to_string(),
        })
        .collect();
    let invoker = if now.version >= INVOKER_SINCE { " WITH (security_invoker = true)" } else { "" };
    let from = table.was.as_ref().unwrap_or(name);
    let mut all = vec![format!(
        "CREATE VIEW {views}.{name}{invoker} AS SELECT {} FROM {}.{from}",
        columns.join(", "),
        now.schema
    )];
    for (column, default) in layout.map(defaults).unwrap_or_default() {
        all.push(format!("ALTER VIEW {views}.{name} ALTER COLUMN {column} SET DEFAULT {default}"));
    }
    if table.is_new() {
        all.push(copied_grants(now, table, views));
    }
    for grant in &table.table.grants {
        let role = role(grant.role.as_ref());
        all.push(format!("GRANT {} ON {views}.{name} TO {role}", grant.right));
    }
    for (column, grant) in layout.map(|it| &it.old.column_grants).into_iter().flatten() {
        let new = table.kept_as(column).or(table.twins.get(column));
        let role = role(grant.role.as_ref());
        all.extend(
            new.map(|new| format!("GRANT {} ({new}) ON {views}.{name} TO {role}", grant.right)),
        );
    }
    all
}

/// Gives a view of the migration's own in the schema of the revision the rights that it will have by
/// default in its place.
fn default_grants(now: &Shape, views: &Name, view: &str) -> String {
    let body = format!(
        "DECLARE it record; BEGIN FOR it IN \
             SELECT a.privilege_type AS what, coalesce(quote_ident(r.rolname), 'PUBLIC') AS role \
             FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a \
             LEFT JOIN pg_roles r ON r.oid = a.grantee \
             WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole \
               AND d.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user) \
               AND d.defaclnamespace IN (0, {}::regnamespace) \
               AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') \
         LOOP \
             EXECUTE 'GRANT ' || it.what || {} || it.role; \
             EXECUTE {} || it.role; \
         END LOOP; END",
        literal(&now.schema.to_string()),
        literal(&format!(" ON {views}.{view} TO ")),
        literal(&format!("GRANT USAGE ON SCHEMA {views} TO ")),
    );
    format!("DO {}", literal(&body))
}

/// Gives whoever may use a new table its view: what is granted by default the server knows.
fn copied_grants(now: &Shape, table: &WantedTable, views: &Name) -> String {
    let name = &table.table.name;
    let body = format!(
        "DECLARE it record; BEGIN FOR it IN \
             SELECT a.privilege_type AS what, coalesce(quote_ident(r.rolname), 'PUBLIC') AS role \
             FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a \
             LEFT JOIN pg_roles r ON r.oid = a.grantee \
             WHERE c.oid = {}::regclass AND a.grantee <> c.relowner \
               AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') \
         LOOP \
             EXECUTE 'GRANT ' || it.what || {} || it.role; \
             EXECUTE {} || it.role; \
         END LOOP; END",
        literal(&format!("{}.{name}", now.schema)),
        literal(&format!(" ON {views}.{name} TO ")),
        literal(&format!("GRANT USAGE ON SCHEMA {views} TO ")),
    );
    format!("DO {}", literal(&body))
}

/// Defaults that the new shape has and the table has not, or has otherwise.
pub(super) fn defaults(layout: &Layout<'_>) -> Vec<(Name, String)> {
    let plain: BTreeSet<&Name> = layout.plain().map(|it| &it.name).collect();
    let mut all = Vec::new();
    for column in &layout.new.table.columns {
        // What rows get that know nothing of it is not what the new code gets.
        let passing = layout.new.passing.contains_key(&column.name);
        if column.made == Made::Computed || (plain.contains(&column.name) && !passing) {
            continue;
        }
        let fresh = layout.fresh.iter().find(|it| it.name == column.name);
        let wanted = match fresh {
            Some(it) => fresh_default(layout, it),
            None => column.default.as_ref().map(|it| it.text().to_owned()),
        };
        let old = match fresh {
            Some(_) => None,
            None => layout.old.column(&layout.physical(&column.name)),
        };
        let before = old.and_then(|it| it.default.as_ref()).map(|it| it.text().to_owned());
        if wanted == before && !passing {
            continue;
        }
        // A plain NULL would count as no default, and the table's would be used.
        let nothing = format!("CASE WHEN false THEN NULL::{} END", column.kind);
        all.push((column.name.clone(), wanted.unwrap_or(nothing)));
    }
    all
}

/// What the new shape puts into a new column of which nothing is said.
pub(super) fn fresh_default(layout: &Layout<'_>, it: &Fresh) -> Option<String> {
    if let Some(default) = &it.column.default {
        return Some(default.text().to_owned());
    }
    // Numbers that the server gives out come by way of the old column.
    let own = it.column.sequence.as_ref().filter(|_| !layout.goes_on(it));
    own.or(it.made.as_ref()).map(|it| next_value(it))
}

/// Whether a new column has to be filled row by row.
pub(super) fn is_filled(now: &Shape, it: &Fresh) -> bool {
    it.up.is_some() || it.first.as_ref().is_some_and(|it| is_volatile(now, it))
}
