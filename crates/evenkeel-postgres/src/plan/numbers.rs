//! Columns that the server numbers: what becomes of their sequences at contract.

use super::layout::{Fresh, Layout};
use crate::name::{Name, literal};
use crate::shape::Made;

/// Columns that are numbered by a sequence: the new one takes it over, or goes on where it was.
pub(super) fn taken_over(layout: &Layout<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let table = layout.table();
    for it in &layout.fresh {
        let Some(sequence) = it.column.sequence.as_ref().or(it.made.as_ref()) else { continue };
        let always = match it.column.made {
            Made::IdentityAlways => true,
            Made::IdentityByDefault => false,
            Made::Serial | Made::Written | Made::Computed => {
                let column = &it.physical;
                all.push(format!("ALTER SEQUENCE {sequence} OWNED BY {table}.{column}"));
                // It would end where the old type did.
                if matches!(it.column.kind.as_str(), "smallint" | "integer" | "bigint") {
                    all.push(format!("ALTER SEQUENCE {sequence} AS {}", it.column.kind));
                }
                continue;
            }
        };
        all.push(identity(layout, it, sequence, always));
        if it.made.is_some() {
            all.push(format!("DROP SEQUENCE {sequence}"));
        }
    }
    all
}

/// Lets the server number a column, as and from where another sequence did.
fn identity(layout: &Layout<'_>, it: &Fresh, sequence: &str, always: bool) -> String {
    let table = layout.table();
    let always = if always { "ALWAYS" } else { "BY DEFAULT" };
    let own = format!("{}.{}", layout.schema, aside(layout, it));
    let body = format!(
        "DECLARE s pg_sequence; it record; BEGIN \
             SELECT * INTO s FROM pg_sequence WHERE seqrelid = {sequence}::regclass; \
             EXECUTE {alter} || ' INCREMENT BY ' || s.seqincrement || ' CACHE ' || s.seqcache \
                 || CASE WHEN s.seqcycle THEN ' CYCLE)' ELSE ')' END; \
             PERFORM setval({own_literal}::regclass, nextval({sequence}::regclass), false); \
             FOR it IN SELECT a.privilege_type AS what, \
                     coalesce(quote_ident(r.rolname), 'PUBLIC') AS role \
                 FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a \
                 LEFT JOIN pg_roles r ON r.oid = a.grantee \
                 WHERE c.oid = {sequence}::regclass AND a.grantee <> c.relowner \
             LOOP EXECUTE 'GRANT ' || it.what || {grant} || it.role; END LOOP; \
         END",
        sequence = literal(sequence),
        alter = literal(&format!(
            "ALTER TABLE {table} ALTER COLUMN {} ADD GENERATED {always} AS IDENTITY \
             (SEQUENCE NAME {own}",
            it.physical
        )),
        own_literal = literal(&own),
        grant = literal(&format!(" ON SEQUENCE {own} TO ")),
    );
    format!("DO {}", literal(&body))
}

/// What the sequence of an identity is called until the old one is gone.
fn aside(layout: &Layout<'_>, it: &Fresh) -> Name {
    layout.own(&["seq", layout.old.name.as_str(), it.name.as_str()])
}

/// Sequences of identities get the names of those that went.
pub(super) fn named(layout: &Layout<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for it in &layout.fresh {
        let Some(sequence) = it.column.sequence.as_ref().or(it.made.as_ref()) else { continue };
        if let Made::IdentityAlways | Made::IdentityByDefault = it.column.made {
            let own = aside(layout, it);
            let name = unqualified(sequence);
            all.push(format!("ALTER SEQUENCE {}.{own} RENAME TO {name}", layout.schema));
        }
    }
    all
}

/// The last part of a dotted name as SQL has it.
fn unqualified(name: &str) -> &str {
    let mut quoted = false;
    let mut last = 0;
    for (at, it) in name.char_indices() {
        match it {
            '"' => quoted = !quoted,
            '.' if !quoted => last = at + 1,
            _ => {}
        }
    }
    &name[last..]
}
