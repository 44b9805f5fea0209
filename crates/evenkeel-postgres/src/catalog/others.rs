//! What a schema holds beside its tables and views, with what tells one from another.

use std::collections::{BTreeMap, BTreeSet};

use postgres::GenericClient;

use super::{Unreadable, name};
use crate::name::Name;

/// What a schema holds beside its tables and views.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// The enums, with their values in their order.
    pub enums: BTreeMap<Name, Vec<String>>,
    /// The other types of the user's: domains, composites and ranges, each as text.
    pub types: BTreeMap<Name, String>,
    /// Sequences, be they of a column or not.
    pub sequences: BTreeSet<Name>,
    /// Extensions of the database.
    pub extensions: BTreeSet<Name>,
    /// Functions and procedures: their types as SQL wants them to drop one, and what makes them.
    pub functions: BTreeMap<(Name, String), Function>,
    /// Policies and rules of tables, by table and name: how SQL calls each, and what it says.
    pub on_tables: BTreeMap<(Name, Name), (String, String)>,
    /// Triggers that are disabled, by table and name; a shape does not have them.
    pub disabled: BTreeSet<(Name, Name)>,
    /// Indexes of materialized views, by view and name.
    pub view_indexes: BTreeSet<(Name, Name)>,
    /// Tables that are partitions of another.
    pub partitions: BTreeSet<Name>,
    /// What comments say, by what each is about.
    pub comments: BTreeMap<String, String>,
}

/// A function or a procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `FUNCTION` or `PROCEDURE`.
    pub what: String,
    /// The statement that makes it, or takes its place.
    pub definition: String,
    /// What it takes and gives: one that takes or gives something else cannot take its place.
    pub head: String,
    /// The tables whose triggers run it; nothing if something else uses it too.
    pub run_by: Option<BTreeSet<Name>>,
}

/// Reads what `schema` holds beside its tables and views. `as_if` is the schema that it is to be read
/// as, where it stands for another.
///
/// # Errors
///
/// When the database cannot be asked.
pub fn others(
    client: &mut impl GenericClient,
    schema: &Name,
    as_if: &Name,
) -> Result<Others, Unreadable> {
    let mut tx = client.transaction()?;
    let path = crate::name::list([schema, as_if]);
    tx.batch_execute(&format!("SET LOCAL search_path = {path}"))?;
    let mut all = Others::default();
    let mut ask = |query: &str| tx.query(query, &[&schema.as_str()]);
    for row in ask(ENUMS)? {
        all.enums.insert(name(&row, 0), row.get(1));
    }
    for row in ask(TYPES)? {
        all.types.insert(name(&row, 0), row.get(1));
    }
    for row in ask(RELATIONS)? {
        let into = match row.get::<_, &str>(1) {
            "sequence" => &mut all.sequences,
            "partition" => &mut all.partitions,
            _ => &mut all.extensions,
        };
        into.insert(name(&row, 0));
    }
    for row in ask(FUNCTIONS)? {
        // Only what it is called itself is always printed with its schema.
        let definition =
            row.get::<_, &str>(3).replacen(&format!("{}.", row.get::<_, &str>(4)), "", 1);
        let run_by: Vec<String> = row.get(5);
        let run_by = row.get::<_, bool>(6).then(|| run_by.into_iter().map(Name::new).collect());
        let function = Function { what: row.get(2), definition, head: row.get(7), run_by };
        all.functions.insert((name(&row, 0), row.get(1)), function);
    }
    for row in ask(ON_TABLES)? {
        all.on_tables.insert((name(&row, 0), name(&row, 1)), (row.get(2), row.get(3)));
    }
    for row in ask(DISABLED)? {
        all.disabled.insert((name(&row, 0), name(&row, 1)));
    }
    for row in ask(VIEW_INDEXES)? {
        all.view_indexes.insert((name(&row, 0), name(&row, 1)));
    }
    for row in ask(COMMENTS)? {
        all.comments.insert(row.get(0), row.get(1));
    }
    Ok(all)
}

const ENUMS: &str = "
    SELECT t.typname, ARRAY(SELECT e.enumlabel::text FROM pg_enum e
                            WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
    FROM pg_type t
    WHERE t.typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND t.typtype = 'e'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
                      AND d.objid = t.oid AND d.deptype = 'e')";

const TYPES: &str = "
    SELECT t.typname,
           concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod),
                     CASE WHEN t.typnotnull THEN 'NOT NULL' END, t.typdefault,
                     (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname)
                      FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
                     (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod),
                                        ', ' ORDER BY a.attnum)
                      FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
                        AND NOT a.attisdropped),
                     (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r
                      WHERE r.rngtypid = t.oid))
    FROM pg_type t
    WHERE t.typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND (t.typtype IN ('d', 'r') OR t.typtype = 'c' AND EXISTS (
               SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
                      AND d.objid = t.oid AND d.deptype = 'e')";

const RELATIONS: &str = "
    SELECT c.relname, CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE 'partition' END
    FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND (c.relkind = 'S' OR c.relispartition AND c.relkind IN ('r', 'p'))
    UNION ALL
    SELECT extname, 'extension' FROM pg_extension WHERE $1 IS NOT NULL";

const FUNCTIONS: &str = "
    SELECT p.proname, oidvectortypes(p.proargtypes),
           CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, pg_get_functiondef(p.oid),
           quote_ident($1),
           ARRAY(SELECT DISTINCT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 WHERE t.tgfoid = p.oid AND NOT t.tgisinternal),
           NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass
                       AND d.refobjid = p.oid AND d.classid <> 'pg_trigger'::regclass),
           concat_ws(' returns ', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
    FROM pg_proc p
    WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND p.prokind IN ('f', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')";

const ON_TABLES: &str = "
    SELECT c.relname, p.polname, 'POLICY',
           concat_ws(' ', p.polpermissive, p.polcmd,
                     ARRAY(SELECT r.rolname FROM pg_roles r WHERE r.oid = ANY (p.polroles)
                           ORDER BY 1)::text,
                     'USING', pg_get_expr(p.polqual, p.polrelid),
                     'CHECK', pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
    UNION ALL
    SELECT c.relname, r.rulename, 'RULE', pg_get_ruledef(r.oid, true)
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p')";

const DISABLED: &str = "
    SELECT c.relname, t.tgname
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND t.tgenabled = 'D' AND NOT t.tgisinternal";

const VIEW_INDEXES: &str = "
    SELECT c.relname, i.relname
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = x.indrelid AND c.relkind = 'm'
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)";

const COMMENTS: &str = "
    SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
    FROM pg_description d
    WHERE d.classoid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
      AND (pg_identify_object(d.classoid, d.objoid, d.objsubid)).schema = quote_ident($1)";
