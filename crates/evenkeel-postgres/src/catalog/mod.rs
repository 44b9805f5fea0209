//! Reads the shape of a schema from a live database.

mod others;
mod queries;

use std::collections::BTreeMap;
use std::time::Duration;

use postgres::{GenericClient, Row};

pub use self::others::{Function, Others, others};
use self::queries::{
    COLUMN_GRANTS, COLUMNS, CONSTRAINTS, FUNCTIONS, GRANTS, INDEXES, READS, ROWS_OF, SPOKEN_OF,
    TABLES, TRIGGERS, VIEWS, VOLATILE,
};
use crate::kind::Kind;
use crate::name::Name;
use crate::shape::{
    Column, Constraint, Expression, Grant, Index, Made, Rule, Shape, Size, Table, Trigger, View,
};
use crate::sql::Grammar;

/// How long is waited for a table that somebody has for themselves; it could not be changed either.
const LOCK: Duration = Duration::from_secs(3);

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
    read_by(client, schema, &[schema], grammar)
}

/// Whether there is a schema of this name.
///
/// # Errors
///
/// When the database cannot be asked.
pub fn has_schema(client: &mut impl GenericClient, name: &Name) -> Result<bool, Unreadable> {
    let found =
        client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&name.as_str()])?;
    Ok(found.is_some())
}

/// The same under a `search_path`: names that are found by it are printed without their schema, and
/// so can be read under another one.
pub(crate) fn read_by(
    client: &mut impl GenericClient,
    schema: &Name,
    search_path: &[&Name],
    grammar: &dyn Grammar,
) -> Result<Shape, Unreadable> {
    let mut tx = client.transaction()?;
    let path = crate::name::list(search_path.iter().copied());
    let lock = LOCK.as_millis();
    tx.batch_execute(&format!(
        "SET LOCAL search_path = {path}; SET LOCAL lock_timeout = '{lock}ms'"
    ))?;
    let version: i32 =
        tx.query_one("SELECT current_setting('server_version_num')::int / 10000", &[])?.get(0);
    let mut reader = Reader { schema, grammar, tables: BTreeMap::new(), views: BTreeMap::new() };
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
    for row in tx.query(VIEWS, &[&schema.as_str()])? {
        reader.view(&row);
    }
    for row in tx.query(READS, &[&schema.as_str()])? {
        reader.reads(&row);
    }
    for row in tx.query(GRANTS, &[&schema.as_str()])? {
        reader.grant(&row);
    }
    for row in tx.query(COLUMN_GRANTS, &[&schema.as_str()])? {
        reader.column_grant(&row);
    }
    for row in tx.query(TRIGGERS, &[&schema.as_str()])? {
        reader.trigger(&row);
    }
    let query = spoken_of(&mut tx)?;
    for row in tx.query(&query, &[&schema.as_str()])? {
        reader.spoken_of(&row);
    }
    let functions = tx.query(FUNCTIONS, &[&schema.as_str()])?;
    let rows_of = tx.query(ROWS_OF, &[&schema.as_str()])?;
    let volatile = tx.query(VOLATILE, &[&schema.as_str()])?;
    Ok(Shape {
        schema: schema.clone(),
        tables: reader.tables,
        views: reader.views,
        functions: functions.iter().map(|row| (name(row, 0), row.get(1))).collect(),
        rows_of: rows_of
            .iter()
            .map(|row| (name(row, 0), names(row, 1).into_iter().collect()))
            .collect(),
        volatile: volatile.iter().map(|row| name(row, 0)).collect(),
        version: u32::try_from(version).unwrap_or_default(),
    })
}

/// Before anything was done there is no ledger to tell views of ours by.
fn spoken_of(client: &mut impl GenericClient) -> Result<String, Unreadable> {
    let known: bool =
        client.query_one("SELECT to_regclass('evenkeel.revision') IS NOT NULL", &[])?.get(0);
    if known {
        return Ok(SPOKEN_OF.to_owned());
    }
    let none = "(SELECT NULL::text AS schema, NULL::text AS number WHERE false)";
    Ok(SPOKEN_OF.replace("evenkeel.revision", none))
}

struct Reader<'a> {
    schema: &'a Name,
    grammar: &'a dyn Grammar,
    tables: BTreeMap<Name, Table>,
    views: BTreeMap<Name, View>,
}

impl Reader<'_> {
    fn table(&mut self, row: &Row) {
        let mut table = Table::new(name(row, 0));
        let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        table.size = Size { rows: count(1), bytes: count(2) };
        table.partitioned = row.get(3);
        table.guarded = row.get(4);
        table.inherited = row.get(5);
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
            last: row.get(9),
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
        let of = name(row, 0);
        let grant = Grant { role: row.get::<_, Option<&str>>(1).map(Name::new), right: row.get(2) };
        if let Some(table) = self.tables.get_mut(&of) {
            table.grants.push(grant);
        } else if let Some(view) = self.views.get_mut(&of) {
            view.grants.push(grant);
        }
    }

    fn column_grant(&mut self, row: &Row) {
        if let Some(table) = self.tables.get_mut(&name(row, 0)) {
            let role = row.get::<_, Option<&str>>(2).map(Name::new);
            table.column_grants.push((name(row, 1), Grant { role, right: row.get(3) }));
        }
    }

    fn trigger(&mut self, row: &Row) {
        if let Some(table) = self.tables.get_mut(&name(row, 0)) {
            table.triggers.push(Trigger {
                name: name(row, 1),
                definition: row.get(2),
                function: name(row, 3),
                body: row.get(4),
                before: row.get(5),
                on_update: row.get(6),
                columns: names(row, 7).into_iter().collect(),
            });
        }
    }

    fn view(&mut self, row: &Row) {
        let query: &str = row.get(2);
        let view = View {
            name: name(row, 0),
            materialized: row.get(1),
            query: query.trim().trim_end_matches(';').to_owned(),
            columns: names(row, 3),
            reads: BTreeMap::new(),
            options: row.get(4),
            triggers: row.get(5),
            grants: Vec::new(),
        };
        self.views.insert(view.name.clone(), view);
    }

    fn reads(&mut self, row: &Row) {
        if let Some(view) = self.views.get_mut(&name(row, 0)) {
            let columns = view.reads.entry(name(row, 1)).or_default();
            columns.extend(row.get::<_, Option<&str>>(2).map(Name::new));
        }
    }

    fn spoken_of(&mut self, row: &Row) {
        if let Some(table) = self.tables.get_mut(&name(row, 0)) {
            table.spoken_of.push((name(row, 1), row.get(2)));
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
