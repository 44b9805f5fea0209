//! The stack file of the demo: the example that people can copy, with its programs found, its
//! port free, and one thing changed for each release.

use std::fmt;

/// The example, as it is in the repository.
const EXAMPLE: &str = include_str!("../../../../../examples/shop/evenkeel.toml");
/// What web has for its orders, beside that.
const DATABASE: &str = r#"[database.main]
url = "file:address"
migrations = "migrations"
"#;
/// What web uses then.
const USES: &str = r#"["catalog", "database.main"]"#;
/// The file with the address of the database, beside the stack file.
pub(super) const ADDRESS: &str = "address";
/// The folder of migrations, beside the stack file.
pub(super) const MIGRATIONS: &str = "migrations";

/// What a release of the demo is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Both services as they are first.
    First,
    /// A good new web.
    Good,
    /// A web that is never healthy.
    Stuck,
    /// A web that dies under load.
    Crashing,
    /// A new web and a new catalog, all traffic at once.
    Both,
    /// A web that takes orders.
    Orders,
    /// A web that knows customers by two names.
    Names,
    /// A web that wants amounts in another way.
    Prices,
}

/// A change of the schema, and what code makes it necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Migration {
    pub(super) file: &'static str,
    pub(super) text: &'static str,
}

/// Where the demo differs from the example: its programs and its door.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// This very program.
    pub(super) program: String,
    /// The port of the edge.
    pub(super) port: u16,
    /// The request at which an instance of a crashing web dies.
    pub(super) crash_after: u32,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version())
    }
}

impl Variant {
    /// The version that the variant's web answers with: the number of its revision.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::First => "1",
            Self::Good => "2",
            Self::Stuck => "3",
            Self::Crashing => "4",
            Self::Both => "5",
            Self::Orders => "6",
            Self::Names => "7",
            Self::Prices => "8",
        }
    }

    /// The migration that comes with the variant.
    pub(super) fn migration(self) -> Option<Migration> {
        let migration = |file, text| Some(Migration { file, text });
        match self {
            Self::First | Self::Good | Self::Stuck | Self::Crashing | Self::Both => None,
            Self::Orders => {
                migration("0001_orders.sql", include_str!("migrations/0001_orders.sql"))
            }
            Self::Names => migration("0002_names.sql", include_str!("migrations/0002_names.sql")),
            Self::Prices => {
                migration("0003_prices.sql", include_str!("migrations/0003_prices.sql"))
            }
        }
    }

    /// The text of the stack file.
    pub(super) fn text(self, place: &Place) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let run = |name: &str| format!("[{}, \"example\", {name:?}]", quoted(&place.program));
        let listen = quoted(&format!("127.0.0.1:{}", place.port));
        let version = self.version();
        let mut changes = vec![
            ("[service.web]", "run", run("web")),
            ("[service.catalog]", "run", run("catalog")),
            ("[edge]", "listen", listen),
            ("[service.web]", "env", format!("{{ VERSION = \"{version}\" }}")),
        ];
        changes.extend(match self {
            Self::First | Self::Good => vec![],
            Self::Stuck => vec![
                ("[service.web]", "env", variables(version, "FAIL_HEALTH = 1")),
                ("[service.web.rollout]", "start_deadline", quoted("4s")),
            ],
            Self::Crashing => {
                let more = format!("CRASH_AFTER = {}", place.crash_after);
                vec![("[service.web]", "env", variables(version, &more))]
            }
            Self::Both => vec![
                ("[service.catalog]", "env", "{ VERSION = \"2\" }".to_owned()),
                ("[service.web.rollout]", "strategy", quoted("blue-green")),
                ("[service.web.rollout]", "steps", String::new()),
            ],
            // The old side is not kept for long: the end of a change is to be seen as well.
            Self::Orders => vec![
                ("[service.web]", "env", variables(version, "SHAPE = 1")),
                ("[service.web.rollout]", "strategy", quoted("blue-green") + "\nbake = \"0s\""),
                ("[service.web.rollout]", "steps", String::new()),
            ],
            Self::Names => vec![
                ("[service.web]", "env", variables(version, "SHAPE = 2")),
                ("[service.web.rollout]", "steps", step("2s") + "\nbake = \"1s\""),
            ],
            Self::Prices => vec![
                ("[service.web]", "env", variables(version, "SHAPE = 3")),
                ("[service.web.rollout]", "steps", step("10m")),
            ],
        });
        let mut text = EXAMPLE.to_owned();
        if self.migration().is_some() {
            changes.push(("[service.web]", "uses", USES.to_owned()));
            text = format!("{text}\n{DATABASE}");
        }
        changes.iter().fold(text, |text, (table, key, value)| with(&text, table, key, value))
    }
}

/// What the stack file says in addition where web has a database.
pub(super) fn addition() -> String {
    format!("{DATABASE}[service.web]\nuses = {USES}\n")
}

/// One step at which both revisions have as many requests.
fn step(bake: &str) -> String {
    format!("[{{ weight = \"50%\", bake = \"{bake}\" }}]")
}

fn variables(version: &str, more: &str) -> String {
    format!("{{ VERSION = \"{version}\", {more} }}")
}

/// The text with another value of one key; an empty value removes it.
fn with(text: &str, table: &str, key: &str, value: &str) -> String {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == table;
        }
        let found = inside && line.split('=').next().is_some_and(|name| name.trim() == key);
        match (found, value.is_empty()) {
            (false, _) => lines.push(line.to_owned()),
            (true, true) => {}
            (true, false) => lines.push(format!("{key} = {value}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::Stack;
    use evenkeel_kernel::spec;

    use super::*;

    fn stack(text: &str) -> Stack {
        let (stack, problems) = spec::read(text, "/srv");
        assert!(problems.is_empty(), "{text}\n{problems:?}");
        stack.unwrap()
    }

    #[test]
    fn the_example_and_every_variant_of_it_are_read_without_problems() {
        stack(EXAMPLE);
        let place =
            Place { program: "/opt/a \"b\"/evenkeel".to_owned(), port: 1234, crash_after: 12 };
        for variant in [
            Variant::First,
            Variant::Good,
            Variant::Stuck,
            Variant::Crashing,
            Variant::Both,
            Variant::Orders,
            Variant::Names,
            Variant::Prices,
        ] {
            let read = stack(&variant.text(&place));
            let web = &read.services[&"web".parse().unwrap()];
            assert_eq!(web.workload.run[0], "/opt/a \"b\"/evenkeel");
            assert_eq!(web.workload.env["VERSION"], variant.version());
            assert_eq!(read.edge.listen[0].port(), 1234);
            assert_eq!(read.databases.len(), usize::from(variant.migration().is_some()));
            assert_eq!(web.workload.databases.len(), read.databases.len());
        }
    }

    #[test]
    fn only_the_key_of_the_named_table_changes() {
        let text = "[a]\nx = 1\n[b]\nx = 1\ny = 2\n";
        assert_eq!(with(text, "[b]", "x", "3"), "[a]\nx = 1\n[b]\nx = 3\ny = 2\n");
        assert_eq!(with(text, "[b]", "y", ""), "[a]\nx = 1\n[b]\nx = 1\n");
    }
}
