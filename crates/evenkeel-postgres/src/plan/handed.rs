//! What hangs on columns, rules and views whose place others take, and that SQL does not say with
//! them: comments, rights, statistics, which index a table goes by.
//!
//! It is read from the catalog in the transaction that needs it, before the old ones go, as
//! statements; these are run once the others are there. So it is as it was at that moment.

use super::layout::Layout;
use super::tighten::{Fate, fate, index_fate};
use super::views::{self, Carried};
use crate::name::{Name, literal};
use crate::shape::{Column, Shape, View};
use crate::wanted::Wanted;

/// The setting that holds statements, by the old names of what they are about, until they are run.
const BY_OLD: &str = "evenkeel.handed_by_old";
/// The one that holds statements by new names.
const BY_NEW: &str = "evenkeel.handed_by_new";

/// Reads what hangs on what others take the place of at contract.
pub(super) fn read(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    carried: &Carried<'_>,
) -> Vec<String> {
    let mut all = Vec::new();
    for layout in layouts {
        if !layout.new.twins.is_empty() {
            all.push(remember(BY_OLD, &of_columns(layout)));
        }
        let triggers = views::triggers(layout).filter(|it| !views::is_dropped(wanted, it));
        let triggers: Vec<&Name> = triggers.map(|it| &it.name).collect();
        if !triggers.is_empty() {
            all.push(remember(BY_OLD, &of_triggers(layout, &triggers)));
        }
        let rules = built_anew(layouts, layout);
        if !rules.is_empty() {
            all.push(remember(BY_NEW, &of_rules(layout, &rules)));
        }
    }
    for view in &carried.again {
        all.push(remember(BY_OLD, &of_view(view, &now.schema, &now.schema)));
    }
    all
}

/// Hands on what hung on columns, triggers and views, while all have their old names.
pub(super) fn by_old_names() -> String {
    run(BY_OLD)
}

/// Hands on what hung on rules and indexes, once all have their new names.
pub(super) fn by_new_names() -> String {
    run(BY_NEW)
}

/// Gives copies of views in the schema of a revision what hangs on the views.
pub(super) fn to_copies(now: &Shape, carried: &Carried<'_>, views: &Name) -> Vec<String> {
    let copied = carried.again.iter().filter(|it| !it.materialized);
    let mut all: Vec<String> =
        copied.map(|it| remember(BY_OLD, &of_view(it, &now.schema, views))).collect();
    if !all.is_empty() {
        all.push(run(BY_OLD));
    }
    all
}

/// Adds the statements that queries give to a setting.
fn remember(setting: &str, queries: &[String]) -> String {
    format!(
        "SELECT set_config('{setting}', concat(current_setting('{setting}', true), \
         (SELECT string_agg(it.said || '; ', '') FROM ({}) AS it (said))), true)",
        queries.join(" UNION ALL ")
    )
}

fn run(setting: &str) -> String {
    let body = format!(
        "DECLARE said text := current_setting('{setting}', true); BEGIN \
         PERFORM set_config('{setting}', '', true); \
         IF said <> '' THEN EXECUTE said; END IF; END"
    );
    format!("DO {}", literal(&body))
}

/// What hangs on columns that others take the place of, which have their names then.
fn of_columns(layout: &Layout<'_>) -> Vec<String> {
    let table = literal(&layout.table());
    let twins = &layout.new.twins;
    // What is made anew with another type is stored as that is.
    let kind = |it: Option<&Column>| it.map(|it| it.kind.clone());
    let same = twins
        .iter()
        .filter(|(old, new)| kind(layout.old.column(old)) == kind(layout.new.table.column(new)));
    let same = array(same.map(|(old, _)| old));
    let gone = array(layout.new.gone.keys().filter(|it| !twins.contains_key(*it)));
    let twins = array(twins.keys());
    let alter = |what: &str, value: &str, also: &str| {
        format!(
            "SELECT format('ALTER TABLE %s ALTER COLUMN %I SET {what}', {table}, a.attname, {value}) \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = {table}::regclass AND {also}"
        )
    };
    let names = |columns: &str| {
        format!(
            "EXISTS (SELECT FROM pg_depend d \
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid \
               AND d.refclassid = 'pg_class'::regclass AND a.attname = ANY ({columns}))"
        )
    };
    let within = format!("a.attname = ANY ({twins})");
    vec![
        comments(&table, &table, &within),
        rights(&table, &table, &within),
        alter("STATISTICS %s", "a.attstattarget", &format!("{within} AND a.attstattarget >= 0")),
        alter(
            "(%s)",
            "array_to_string(a.attoptions, ', ')",
            &format!("{within} AND a.attoptions IS NOT NULL"),
        ),
        alter(
            "STORAGE %s",
            "CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' \
             ELSE 'EXTENDED' END",
            &format!("a.attname = ANY ({same}) AND a.attstorage <> t.typstorage"),
        ),
        alter(
            "COMPRESSION %s",
            "CASE a.attcompression WHEN 'p' THEN 'pglz' ELSE 'lz4' END",
            &format!("a.attname = ANY ({same}) AND a.attcompression IN ('p', 'l')"),
        ),
        format!(
            "SELECT concat(pg_get_statisticsobjdef(s.oid), \
                 format('; COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname, \
                        obj_description(s.oid, 'pg_statistic_ext'))) \
             FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace \
             WHERE s.stxrelid = {table}::regclass AND {} AND NOT {}",
            names(&twins),
            names(&gone),
        ),
    ]
}

/// What hangs on triggers that are made anew.
fn of_triggers(layout: &Layout<'_>, triggers: &[&Name]) -> Vec<String> {
    let table = literal(&layout.table());
    let of = format!(
        "FROM pg_trigger t WHERE t.tgrelid = {table}::regclass AND t.tgname = ANY ({})",
        array(triggers.iter().copied())
    );
    vec![
        format!(
            "SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, {table}, \
                 obj_description(t.oid, 'pg_trigger')) {of} \
             AND obj_description(t.oid, 'pg_trigger') IS NOT NULL"
        ),
        format!(
            "SELECT format('ALTER TABLE %s ENABLE %s TRIGGER %I', {table}, \
                 CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, t.tgname) {of} \
             AND t.tgenabled IN ('A', 'R')"
        ),
    ]
}

/// What hangs on constraints and indexes that are built anew, given by their old and new names.
fn of_rules(layout: &Layout<'_>, rules: &[(Name, Name)]) -> Vec<String> {
    let was = literal(&layout.table());
    let table = literal(&format!("{}.{}", layout.schema, layout.new.table.name));
    let schema = literal(&layout.schema.to_string());
    let pairs: Vec<String> = rules
        .iter()
        .map(|(old, new)| format!("({}, {})", literal(old.as_str()), literal(new.as_str())))
        .collect();
    let pairs = pairs.join(", ");
    let of = format!(
        "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         JOIN (VALUES {pairs}) AS rule (old, new) ON rule.old = i.relname \
         WHERE x.indrelid = {was}::regclass"
    );
    vec![
        format!(
            "SELECT format('COMMENT ON CONSTRAINT %I ON %s IS %L', rule.new, {table}, \
                 obj_description(k.oid, 'pg_constraint')) \
             FROM pg_constraint k JOIN (VALUES {pairs}) AS rule (old, new) ON rule.old = k.conname \
             WHERE k.conrelid = {was}::regclass \
               AND obj_description(k.oid, 'pg_constraint') IS NOT NULL"
        ),
        format!(
            "SELECT format('COMMENT ON INDEX %s.%I IS %L', {schema}, rule.new, \
                 obj_description(i.oid, 'pg_class')) {of} \
             AND obj_description(i.oid, 'pg_class') IS NOT NULL"
        ),
        format!(
            "SELECT format('ALTER TABLE %s CLUSTER ON %I', {table}, rule.new) {of} \
             AND x.indisclustered"
        ),
        format!(
            "SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {table}, rule.new) {of} \
             AND x.indisreplident"
        ),
    ]
}

/// What hangs on a view, for the one of its name in another schema, or that is made anew.
fn of_view(view: &View, from: &Name, to: &Name) -> Vec<String> {
    let was = literal(&format!("{from}.{}", view.name));
    let is = literal(&format!("{to}.{}", view.name));
    vec![
        format!(
            "SELECT format('COMMENT ON VIEW %s IS %L', {is}, \
                 obj_description({was}::regclass, 'pg_class')) \
             WHERE obj_description({was}::regclass, 'pg_class') IS NOT NULL"
        ),
        comments(&was, &is, "a.attnum > 0"),
        rights(&was, &is, "a.attnum > 0"),
        format!(
            "SELECT format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', {is}, a.attname, \
                 pg_get_expr(d.adbin, d.adrelid)) \
             FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             WHERE d.adrelid = {was}::regclass"
        ),
    ]
}

/// Comments on columns of a relation, for those of another.
fn comments(was: &str, is: &str, within: &str) -> String {
    format!(
        "SELECT format('COMMENT ON COLUMN %s.%I IS %L', {is}, a.attname, \
             col_description(a.attrelid, a.attnum)) \
         FROM pg_attribute a WHERE a.attrelid = {was}::regclass AND {within} \
           AND col_description(a.attrelid, a.attnum) IS NOT NULL"
    )
}

/// Rights on columns of a relation, for those of another.
fn rights(was: &str, is: &str, within: &str) -> String {
    format!(
        "SELECT format('GRANT %s (%I) ON %s TO %s%s', x.privilege_type, a.attname, {is}, \
             coalesce(quote_ident(r.rolname), 'PUBLIC'), \
             CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' END) \
         FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) x \
         LEFT JOIN pg_roles r ON r.oid = x.grantee \
         WHERE a.attrelid = {was}::regclass AND {within}"
    )
}

/// Constraints and indexes that are built anew, by their old names, with the new ones.
fn built_anew(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<(Name, Name)> {
    let new = &layout.new;
    let is_built = |it: Fate| matches!(it, Fate::Built { .. });
    let constraints = new.table.constraints.iter().filter_map(|it| {
        let old = new.constraints.get(&it.name)?;
        is_built(fate(layouts, layout, it)).then(|| (old.clone(), it.name.clone()))
    });
    let indexes = new.table.indexes.iter().filter_map(|it| {
        let old = new.indexes.get(&it.name)?;
        is_built(index_fate(layout, &it.name)).then(|| (old.clone(), it.name.clone()))
    });
    constraints.chain(indexes).collect()
}

fn array<'a>(names: impl IntoIterator<Item = &'a Name>) -> String {
    let all: Vec<String> = names.into_iter().map(|it| literal(it.as_str())).collect();
    format!("ARRAY[{}]::text[]", all.join(", "))
}
