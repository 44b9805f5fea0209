//! Reads the shape of a schema from a live database.

use std::collections::BTreeMap;

use postgres::{GenericClient, Row};

use crate::kind::Kind;
use crate::name::Name;
use crate::shape::{Column, Constraint, Expression, Grant, Index, Made, Rule, Shape, Size, Table};
use crate::sql::Grammar;

/// Why a shape could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The database said no, or nothing.
    #[error("could not read the catalog")]
    Database(#[from] postgres::Error),
    /// There is something that the grammar does not understand.
    #[error("could not understand {what}: {why}")]
    Unknown {
        /// What it is: `index orders_total`.
        what: String,
        /// What the grammar said.
        why: String,
    },
}

/// Reads the tables of `schema`, in a transaction of its own whose `search_path` is that schema.
///
/// # Errors
///
/// When the database cannot be asked, or holds what is not understood.
pub fn read(
    client: &mut impl GenericClient,
    schema: &Name,
    grammar: &dyn Grammar,
) -> Result<Shape, Unreadable> {
    let mut tx = client.transaction()?;
    // Names of this schema are printed without it, and so can be read under another one.
    tx.batch_execute(&format!("SET LOCAL search_path = {schema}"))?;
    let version: i32 =
        tx.query_one("SELECT current_setting('server_version_num')::int / 10000", &[])?.get(0);
    let mut reader = Reader { schema, grammar, tables: BTreeMap::new() };
    for row in tx.query(TABLES, &[&schema.as_str()])? {
        reader.table(&row);
    }
    for row in tx.query(COLUMNS, &[&schema.as_str()])? {
        reader.column(&row)?;
    }
    for row in tx.query(CONSTRAINTS, &[&schema.as_str()])? {
        reader.constraint(&row)?;
    }
    for row in tx.query(INDEXES, &[&schema.as_str()])? {
        reader.index(&row)?;
    }
    for row in tx.query(GRANTS, &[&schema.as_str()])? {
        reader.grant(&row);
    }
    for row in tx.query(TRIGGERS, &[&schema.as_str()])? {
        reader.trigger(&row);
    }
    let volatile = tx.query(VOLATILE, &[&schema.as_str()])?;
    Ok(Shape {
        schema: schema.clone(),
        tables: reader.tables,
        volatile: volatile.iter().map(|row| name(row, 0)).collect(),
        version: u32::try_from(version).unwrap_or_default(),
    })
}

const TABLES: &str = "
    SELECT c.relname, greatest(c.reltuples, 0)::int8, pg_relation_size(c.oid),
           c.relkind = 'p' OR c.relispartition, c.relrowsecurity
    FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')";

const COLUMNS: &str = "
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attidentity::text, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid),
           CASE WHEN a.attcollation <> t.typcollation
                THEN a.attcollation::regcollation::text END,
           pg_get_serial_sequence(format('%I.%I', $1::text, c.relname), a.attname)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p')
    ORDER BY c.relname, a.attnum";

const CONSTRAINTS: &str = "
    SELECT c.relname, k.conname, k.contype::text,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
                 ORDER BY u.at),
           f.relname,
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num
                 ORDER BY u.at),
           pg_get_constraintdef(k.oid), pg_get_expr(k.conbin, k.conrelid),
           ARRAY(SELECT a.attname::text FROM pg_index x
                 CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS u (num, at)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
                 WHERE x.indexrelid = k.conindid AND u.at > x.indnkeyatts AND k.contype = 'u'
                 ORDER BY u.at)
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    LEFT JOIN pg_class f ON f.oid = k.confrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND k.contype IN ('p', 'u', 'c', 'f', 'x') AND k.conparentid = 0
    ORDER BY c.relname, k.conname";

const INDEXES: &str = "
    SELECT c.relname, i.relname, x.indisunique, pg_get_indexdef(x.indexrelid)
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND x.indisvalid AND NOT i.relispartition
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid
                      AND k.contype IN ('p', 'u', 'x'))
    ORDER BY c.relname, i.relname";

const GRANTS: &str = "
    SELECT c.relname, r.rolname, a.privilege_type
    FROM pg_class c
    CROSS JOIN LATERAL aclexplode(c.relacl) a
    LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
      AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ORDER BY c.relname, r.rolname, a.privilege_type";

const TRIGGERS: &str = "
    SELECT c.relname, t.tgname
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
      AND NOT t.tgisinternal AND t.tgname NOT LIKE '~evenkeel%' AND t.tgtype & 16 = 16
      AND t.tgenabled <> 'D'
    ORDER BY c.relname, t.tgname";

const VOLATILE: &str = "
    SELECT DISTINCT p.proname FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.provolatile = 'v' AND p.prokind = 'f'
      AND (n.nspname = $1 OR n.nspname NOT IN ('pg_catalog', 'information_schema'))";

struct Reader<'a> {
    schema: &'a Name,
    grammar: &'a dyn Grammar,
    tables: BTreeMap<Name, Table>,
}

impl Reader<'_> {
    fn table(&mut self, row: &Row) {
        let mut table = Table::new(name(row, 0));
        let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        table.size = Size { rows: count(1), bytes: count(2) };
        table.partitioned = row.get(3);
        table.guarded = row.get(4);
        self.tables.insert(table.name.clone(), table);
    }

    fn column(&mut self, row: &Row) -> Result<(), Unreadable> {
        let Some(table) = self.tables.get_mut(&name(row, 0)) else { return Ok(()) };
        let made = match (row.get::<_, &str>(4), row.get::<_, &str>(5)) {
            ("a", _) => Made::IdentityAlways,
            ("d", _) => Made::IdentityByDefault,
            (_, "") => Made::Written,
            (_, _) => Made::Computed,
        };
        let column = name(row, 1);
        let default = match row.get::<_, Option<&str>>(6) {
            Some(text) => Some(expression(
                self.grammar,
                text,
                &table.name,
                &format!("the default of {}.{column}", table.name),
            )?),
            None => None,
        };
        table.columns.push(Column {
            name: column,
            kind: Kind::printed(row.get::<_, &str>(2)),
            collation: row.get(7),
            not_null: row.get(3),
            default,
            made,
            sequence: row.get(8),
        });
        Ok(())
    }

    fn constraint(&mut self, row: &Row) -> Result<(), Unreadable> {
        let Some(table) = self.tables.get_mut(&name(row, 0)) else { return Ok(()) };
        let constraint = name(row, 1);
        let columns = names(row, 3);
        let definition: &str = row.get(6);
        let rule = match row.get::<_, &str>(2) {
            "p" => Rule::Primary { columns },
            "u" => Rule::Unique { columns, include: names(row, 8), rest: unique_rest(definition) },
            "f" => Rule::Foreign {
                columns,
                table: name(row, 4),
                to: names(row, 5),
                rest: foreign_rest(definition).to_owned(),
            },
            "c" => {
                let text = row.get::<_, Option<&str>>(7).unwrap_or("true");
                let what = format!("constraint {constraint}");
                Rule::Check { expression: expression(self.grammar, text, &table.name, &what)? }
            }
            _ => Rule::Other { definition: definition.to_owned(), columns },
        };
        table.constraints.push(Constraint { name: constraint, rule });
        Ok(())
    }

    fn index(&mut self, row: &Row) -> Result<(), Unreadable> {
        let Some(table) = self.tables.get_mut(&name(row, 0)) else { return Ok(()) };
        let index = name(row, 1);
        let definition: &str = row.get(3);
        // `CREATE INDEX name ON [ONLY] schema.table USING …`.
        let rest = definition.find(" USING ").map_or("", |at| &definition[at + 1..]);
        let rest = self.grammar.index(rest, &table.name).map_err(|why| Unreadable::Unknown {
            what: format!("index {index} of {}", self.schema),
            why,
        })?;
        table.indexes.push(Index { name: index, unique: row.get(2), rest });
        Ok(())
    }

    fn grant(&mut self, row: &Row) {
        if let Some(table) = self.tables.get_mut(&name(row, 0)) {
            let role = row.get::<_, Option<&str>>(1).map(Name::new);
            table.grants.push(Grant { role, right: row.get(2) });
        }
    }

    fn trigger(&mut self, row: &Row) {
        if let Some(table) = self.tables.get_mut(&name(row, 0)) {
            table.triggers.push(name(row, 1));
        }
    }
}

fn expression(
    grammar: &dyn Grammar,
    text: &str,
    table: &Name,
    what: &str,
) -> Result<Expression, Unreadable> {
    grammar
        .expression(text, table)
        .map_err(|why| Unreadable::Unknown { what: format!("{what}, `{text}`"), why })
}

/// What a unique constraint says beside its columns.
fn unique_rest(definition: &str) -> String {
    let mut rest = String::new();
    if definition.contains("NULLS NOT DISTINCT") {
        rest.push_str("NULLS NOT DISTINCT ");
    }
    // `UNIQUE (a, b) INCLUDE (c) DEFERRABLE`.
    if let Some(at) = definition.rfind(')') {
        rest.push_str(definition[at + 1..].trim());
    }
    rest.trim().to_owned()
}

/// What follows `REFERENCES table(columns)`.
fn foreign_rest(definition: &str) -> &str {
    let Some(at) = definition.find(" REFERENCES ") else { return "" };
    let after = &definition[at..];
    let rest = after.find(')').map_or("", |at| after[at + 1..].trim());
    rest.strip_suffix("NOT VALID").unwrap_or(rest).trim()
}

fn name(row: &Row, at: usize) -> Name {
    Name::new(row.get::<_, &str>(at))
}

fn names(row: &Row, at: usize) -> Vec<Name> {
    row.get::<_, Vec<String>>(at).into_iter().map(Name::new).collect()
}
