//! Databases: `[database.NAME]`.

use super::check::Named;
use super::materials::Mention;
use super::notify::{kept, mentions_in};
use super::path;
use super::problem::{Mistake, Mistakes};
use super::schema::{Key, Kind, Table};
use crate::model::{Database, DatabaseName};

/// The most databases in one file; each whose schema changes has a thread of its own.
pub const DATABASES_MAX: usize = 20;

/// `[database.NAME]`
pub(super) static DATABASE: Table = Table {
    id: "database",
    header: "[database.NAME]",
    doc: "A PostgreSQL that services use. One that says `uses = [\"database.main\"]` finds its \
          address in `MAIN_URL`, with the `search_path` of its revision. With `migrations` or \
          `desired`, what changes of its schema is part of the release that brings the code for it: both \
          shapes are there and in step until nobody uses the old one.",
    short: None,
    keys: &[
        Key::new(
            "url",
            Kind::Secret,
            "\"env:DATABASE_URL\"",
            "Where its address is read: `postgres://user:password@host:5432/shop`. The user must \
             own the tables, if it follows `migrations` or `desired` and there is no `owner`.",
        )
        .required()
        .elsewhere(&["address", "dsn", "connection", "connection_string", "uri"]),
        Key::new(
            "owner",
            Kind::Secret,
            "\"env:OWNER_URL\"",
            "Where the address is read by which the schema is changed: of the user who owns the \
             tables. No service gets it; with it the user in `url` needs no more rights than the \
             code does.",
        )
        .elsewhere(&[
            "owner_url",
            "admin_url",
            "migrate_url",
            "migration_url",
            "superuser",
            "direct_url",
        ]),
        Key::new(
            "migrations",
            Kind::Text,
            "\"db/migrations\"",
            "The folder with its migrations: `.sql` files, run in the order of their names. Files \
             that undo others (`.down.sql`) are left out.",
        )
        .elsewhere(&["migration", "migrations_dir", "migration_folder", "schema_dir"]),
        Key::new(
            "desired",
            Kind::Text,
            "\"db/schema.sql\"",
            "Instead of migrations: a file with the SQL that makes the whole schema from nothing, \
             such as a dump. It is compared with what the database has.",
        )
        .elsewhere(&["schema_file", "src", "desired_schema", "structure", "to"]),
        Key::new("schema", Kind::Text, "\"shop\"", "The schema that holds its tables.")
            .preset(|| format!("\"{}\"", Database::SCHEMA))
            .elsewhere(&["search_path", "namespace"]),
    ],
};

/// Builds one database as far as it can be read.
pub(crate) fn build(
    named: &Named,
    base: &str,
    mistakes: &mut Mistakes,
) -> Option<(DatabaseName, Database)> {
    let fields = named.fields.as_ref()?;
    let schema = fields.text("schema").map_or(Database::SCHEMA, String::as_str);
    if schema.starts_with("pg_") || matches!(schema, "information_schema" | "evenkeel") {
        let wrong = format!("`{schema}` is not a schema of yours");
        let mistake = Mistake::at(&fields.place("schema"), &fields.at("schema"), wrong);
        mistakes.add(mistake.expected("the schema that holds your tables"));
    }
    let url = kept(fields.text("url")?, base)?;
    let file = |key: &str| fields.text(key).map(|it| path::resolve(base, it));
    let (migrations, desired) = (file("migrations"), file("desired"));
    if migrations.is_some() && desired.is_some() {
        let wrong = "`desired` and `migrations` both say what the schema is";
        let mistake = Mistake::at(&fields.place("desired"), &fields.at("desired"), wrong);
        mistakes.add(mistake.expected("one of the two"));
    }
    let owner = fields.text("owner").and_then(|it| kept(it, base));
    if fields.text("owner").is_some() && migrations.is_none() && desired.is_none() {
        let wrong = "nothing here changes the schema, so `owner` is not used";
        let mistake = Mistake::at(&fields.place("owner"), &fields.at("owner"), wrong);
        mistakes.add(mistake.hint("say `migrations` or `desired`, or leave it out".to_owned()));
    }
    let name = named.name.parse().ok()?;
    let schema = schema.to_owned();
    Some((name, Database { url, owner, schema, migrations, desired, views: None, change: None }))
}

/// The secrets that a database mentions.
pub(crate) fn mentions(named: &Named, base: &str) -> Vec<Mention> {
    named
        .fields
        .as_ref()
        .map(|fields| mentions_in(fields, &["url", "owner"], base))
        .unwrap_or_default()
}
