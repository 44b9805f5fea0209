//! What the schemas of databases follow: the migrations in a folder, or the desired schema in a file;
//! and what these come to in the database that is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use evenkeel_kernel::model::{Database, DatabaseName, Follows, SchemaChange};
use evenkeel_local::secret;
use evenkeel_postgres::catalog;
use evenkeel_postgres::connect;
use evenkeel_postgres::desired::{self, Failed};
use evenkeel_postgres::execute::{Bounds, Ledger, Session, ask, look};
use evenkeel_postgres::name::Name;
use evenkeel_postgres::plan::{self, File, Plan};
use evenkeel_postgres::problem::Problem;
use evenkeel_postgres::shape::Shape;
use evenkeel_postgres::sql::{Grammar as _, Squawk, Statement};
use evenkeel_postgres::wanted::Wanted;

/// The most files in one folder; a file a day for decades.
const FILES_MAX: usize = 10_000;
/// The largest file, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// How deep folders are looked into: tools that keep a folder for each migration need one.
const DEPTH_MAX: usize = 2;

/// A migration with its text.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    /// Its name, below the folder.
    pub(crate) name: String,
    /// As it stands in the file, but for parts that undo it.
    pub(crate) text: String,
}

impl Migration {
    fn file(&self) -> File {
        File::of(&*self.name, &self.text)
    }
}

/// A desired schema, under the name of its file.
pub(crate) fn desired(file: &Path) -> anyhow::Result<Migration> {
    let name = file.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Migration { text: text(file)?, name })
}

/// The migrations in a folder, in the order in which they are run.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Migration>> {
    let mut names = Vec::new();
    walk(folder, "", 0, &mut names)
        .with_context(|| format!("could not read the migrations in {}", folder.display()))?;
    names.sort_by_key(|name| natural(name));
    names.into_iter().map(|name| one(folder, name)).collect()
}

fn walk(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            if depth + 1 < DEPTH_MAX {
                walk(&entry.path(), &format!("{name}/"), depth + 1, names)?;
            }
        } else if goes_forward(&name) {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            bail!("there are more than {FILES_MAX} files");
        }
    }
    Ok(())
}

/// Whether a file is a migration, and not the way back from one.
fn goes_forward(name: &str) -> bool {
    let lower = name.to_lowercase();
    let Some(stem) = lower.strip_suffix(".sql") else { return false };
    let last = stem.rsplit('/').next().unwrap_or(stem);
    let undoes = ["down", "undo", "rollback"];
    let flyway = last
        .strip_prefix('u')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains("__"));
    let ending = last.rsplit(['.', '_', '-']).next().unwrap_or_default();
    !(undoes.contains(&ending) || flyway)
}

/// Sorts numbers by what they are: `2_b` before `10_a`.
fn natural(name: &str) -> Vec<(u8, u128, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(match part.parse().ok().filter(|_| digits) {
            Some(number) => (0, number, String::new()),
            None => (1, 0, part.to_owned()),
        });
        rest = after;
    }
    parts
}

fn one(folder: &Path, name: String) -> anyhow::Result<Migration> {
    let text = forward_part(&text(&folder.join(&name))?);
    Ok(Migration { name, text })
}

fn text(path: &Path) -> anyhow::Result<String> {
    let doing = || format!("could not read {}", path.display());
    if std::fs::metadata(path).with_context(doing)?.len() > FILE_MAX {
        bail!("{} has more than {FILE_MAX} bytes: data is not schema", path.display());
    }
    std::fs::read_to_string(path).with_context(doing)
}

/// The part of a file that goes forward, where it has the way back too. Lines keep their numbers.
fn forward_part(text: &str) -> String {
    let mut forward = true;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let words: Vec<String> = line
            .trim()
            .trim_start_matches("--")
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if line.trim_start().starts_with("--") {
            match words.as_slice() {
                ["+goose" | "+migrate", "up", ..] | ["migrate:up", ..] => forward = true,
                ["+goose" | "+migrate", "down", ..] | ["migrate:down", ..] => forward = false,
                _ => {}
            }
        }
        if forward {
            out.push_str(line);
        } else if line.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

/// Reads all statements of migrations, or says all that is wrong with them.
pub(crate) fn statements(
    migrations: &[Migration],
    schema: &Name,
) -> (Vec<Statement>, Vec<Problem>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for migration in migrations {
        let (statements, wrong) = Squawk.read(&migration.name, &migration.text, schema);
        all.extend(statements);
        problems.extend(wrong);
    }
    (all, problems)
}

/// Connects to a database, to look at its schema or change it.
pub(crate) fn session(name: &DatabaseName, database: &Database) -> anyhow::Result<Session> {
    let from = &database.schema_url().from;
    let address = secret::read_text(from)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("could not read the address of database {name} from {from}"))?;
    let client = connect::connect(&address, "evenkeel")
        .with_context(|| format!("could not look at database {name}"))?;
    Ok(Session::new(client))
}

/// What a database's schema is to follow, as it was read.
enum Asked {
    /// Migrations that were not run yet.
    Migrations(Vec<Migration>),
    /// What shall be there.
    Desired(Migration),
}

impl Asked {
    /// Reads what is asked for; of migrations those that the ledger does not know.
    fn read(name: &DatabaseName, follows: Follows<'_>, ledger: &Ledger) -> anyhow::Result<Self> {
        let folder = match follows {
            Follows::Desired(file) => return desired(Path::new(file)).map(Self::Desired),
            Follows::Migrations(folder) => folder,
        };
        let known = ledger.files();
        let (mut changed, mut pending) = (Vec::new(), Vec::new());
        for migration in read(Path::new(folder))? {
            match known.get(migration.name.as_str()) {
                Some(file) if **file == migration.file() => {}
                Some(_) => changed.push(migration.name.clone()),
                None => pending.push(migration),
            }
        }
        if !changed.is_empty() {
            bail!(
                "database {name}: {} changed after it was run; write what is missing into a file \
                 of its own, or run `evenkeel schema adopt` if it means the same as before",
                changed.join(", ")
            );
        }
        Ok(Self::Migrations(pending))
    }

    fn files(&self) -> Vec<File> {
        match self {
            Self::Migrations(all) => all.iter().map(Migration::file).collect(),
            Self::Desired(one) => vec![one.file()],
        }
    }

    /// The statements that it comes to, given what there is.
    fn statements(&self, now: &Shape, session: &mut Session) -> Result<Vec<Statement>, Failed> {
        match self {
            Self::Migrations(all) => match statements(all, &now.schema) {
                (statements, problems) if problems.is_empty() => Ok(statements),
                (_, problems) => Err(Failed::Problems(problems)),
            },
            Self::Desired(one) => {
                desired::statements(session.client(), now, &one.name, &one.text, &Squawk)
            }
        }
    }
}

/// Looks at a database and at what it follows, and works out what is to be done; nothing if all is
/// there.
pub(crate) fn look_at(name: &DatabaseName, database: &Database) -> anyhow::Result<Option<Plan>> {
    let Some(follows) = database.follows() else { return Ok(None) };
    let mut session = session(name, database)?;
    let schema = Name::new(&database.schema);
    let ledger = look(&mut session, &schema)?;
    let asked = Asked::read(name, follows, &ledger)?;
    let files = asked.files();
    if let Some(active) = ledger.active() {
        // It is on its way, and the same once more.
        if active.plan.files == files {
            return Ok(Some(active.plan.clone()));
        }
        if files.is_empty() {
            return Ok(None);
        }
        bail!(
            "database {name}: revision {} of its schema is {}, and another change follows; {}",
            active.revision,
            active.stage,
            active.stage.way_out()
        );
    }
    // Code that reads by views is not touched by what changes below them.
    let by_views = ledger.views().is_some_and(|it| *it != schema);
    if files.is_empty() && (by_views || ledger.entries.is_empty()) {
        return Ok(None);
    }
    let now = shape(name, &schema, &mut session)?;
    if matches!(asked, Asked::Migrations(_)) && ledger.entries.is_empty() && !now.tables.is_empty()
    {
        bail!(
            "database {name} has tables, and nothing is written down of how they came to be; say \
             which migrations were run: `evenkeel schema adopt {name}` for all that are in the \
             folder, or `--through FILE`"
        );
    }
    let told = |problems: Vec<Problem>| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("database {name} cannot be changed like this:\n{}", all.join("\n"))
    };
    let statements = match asked.statements(&now, &mut session) {
        Ok(statements) => statements,
        Err(Failed::Problems(problems)) => return Err(told(problems)),
        Err(error) => {
            return Err(error).with_context(|| format!("could not look at database {name}"));
        }
    };
    let is_desired = matches!(asked, Asked::Desired(_));
    // A migration is written down also if it changes nothing.
    let nothing = statements.is_empty() && (files.is_empty() || is_desired);
    if nothing && (by_views || now.tables.is_empty()) {
        return Ok(None);
    }
    let wanted = Wanted::after(&now, &statements, &Squawk).map_err(told)?;
    let views = ledger.views().cloned();
    let mut plan = plan::derive(&now, &wanted, ledger.next(), views).map_err(told)?;
    let probes = plan::probes(&now, &wanted, plan.revision);
    plan.hazards.extend(
        ask(&mut session, &schema, &probes, Bounds::default())
            .with_context(|| format!("could not look at the rows of database {name}"))?,
    );
    if catalog::has_schema(session.client(), &plan.views)
        .with_context(|| format!("could not look at database {name}"))?
    {
        bail!(
            "database {name} has a schema {} already, where the views of revision {} would be; \
             give it another name or drop it",
            plan.views,
            plan.revision
        );
    }
    plan.files = files;
    if is_desired {
        plan.changes = statements.into_iter().map(|it| it.sql).collect();
    }
    Ok(Some(plan))
}

/// What there is, if it may be changed.
fn shape(name: &DatabaseName, schema: &Name, session: &mut Session) -> anyhow::Result<Shape> {
    let may = session
        .client()
        .query_one(
            "SELECT has_database_privilege(current_database(), 'CREATE'), current_user::text",
            &[],
        )
        .with_context(|| format!("could not look at database {name}"))?;
    if !may.get::<_, bool>(0) {
        let role: String = may.get(1);
        bail!(
            "database {name}: {role} may not make schemas in it, which changing one needs; \
             `GRANT CREATE ON DATABASE … TO {role}`"
        );
    }
    catalog::read(session.client(), schema, &Squawk)
        .with_context(|| format!("could not look at database {name}"))
}

/// The names of the files that wait for a release: of migrations those that were not run, the desired
/// schema if the database is not there.
pub(crate) fn waiting(
    name: &DatabaseName,
    database: &Database,
    ledger: &Ledger,
    session: &mut Session,
) -> anyhow::Result<Vec<String>> {
    let Some(follows) = database.follows() else { return Ok(Vec::new()) };
    let active: &[File] = ledger.active().map(|it| it.plan.files.as_slice()).unwrap_or_default();
    let asked = Asked::read(name, follows, ledger)?;
    let mut files = asked.files();
    files.retain(|file| !active.iter().any(|it| it.name == file.name));
    // While another change is on its way there is nothing to compare with.
    if matches!(asked, Asked::Desired(_)) && !files.is_empty() && ledger.active().is_none() {
        let now = shape(name, &Name::new(&database.schema), session)?;
        if asked.statements(&now, session).is_ok_and(|it| it.is_empty()) {
            files.clear();
        }
    }
    Ok(files.into_iter().map(|it| it.name).collect())
}

/// What the kernel has to know of a plan.
pub(crate) fn change(plan: &Plan) -> anyhow::Result<SchemaChange> {
    Ok(SchemaChange {
        revision: plan.revision,
        views: plan.views.as_str().to_owned(),
        files: plan.files.iter().map(|it| it.name.clone()).collect(),
        script: serde_json::to_string(plan)?.into(),
        expand: beginning(plan),
        contract: end(plan),
        loses: plan.loses.clone(),
        hazards: plan.hazards.iter().map(ToString::to_string).collect(),
    })
}

/// What happens before code that needs it gets traffic, as sentences.
fn beginning(plan: &Plan) -> Vec<String> {
    let mut all = vec![match plan.expand.locks.as_slice() {
        [] => format!("make revision {} of its schema, without locking a table", plan.revision),
        locks => format!(
            "make revision {} of its schema, with a lock of milliseconds on {}",
            plan.revision,
            named(locks)
        ),
    }];
    for backfill in &plan.backfills {
        all.push(format!(
            "fill about {} rows of {} ({} MB), while they are read and written",
            backfill.rows,
            named(std::slice::from_ref(&backfill.table)),
            backfill.bytes >> 20
        ));
    }
    for copied in &plan.copies {
        all.push(format!(
            "make rows of {} from about {} rows of {}, while they are read and written",
            named(std::slice::from_ref(&copied.into)),
            copied.rows,
            named(std::slice::from_ref(&copied.from)),
        ));
    }
    match plan.tighten.len() {
        0 => {}
        1 => all.push("build or check one index or rule, blocking nobody".to_owned()),
        count => all.push(format!("build or check {count} indexes and rules, blocking nobody")),
    }
    all
}

/// Tables as people name them.
fn named(tables: &[String]) -> String {
    tables.join(", ").replace('"', "")
}

/// What happens when nobody needs the old shape any more, as sentences.
fn end(plan: &Plan) -> Vec<String> {
    match plan.contract.locks.as_slice() {
        [] => Vec::new(),
        locks => vec![format!(
            "take the old shape away, with a lock of milliseconds on {}",
            named(locks)
        )],
    }
}

/// What each database is to come to, for a change that is handed in. Waits for databases, so
/// it runs in a thread of its own.
pub(crate) fn changes(
    databases: BTreeMap<DatabaseName, Database>,
) -> anyhow::Result<BTreeMap<DatabaseName, Arc<SchemaChange>>> {
    let work = move || -> anyhow::Result<_> {
        let mut all = BTreeMap::new();
        for (name, database) in &databases {
            if let Some(plan) = look_at(name, database)? {
                let mut change = change(&plan)?;
                change.hazards.extend(past_the_views(database, &databases));
                all.insert(name.clone(), Arc::new(change));
            }
        }
        Ok(all)
    };
    std::thread::spawn(work).join().map_err(|_panicked| anyhow::anyhow!("a thread has failed"))?
}

/// Databases that are the same one under another name, where code would not find the views. Those
/// whose address cannot be read are told of elsewhere.
fn past_the_views(database: &Database, all: &BTreeMap<DatabaseName, Database>) -> Vec<String> {
    let Ok(address) = secret::read_text(&database.schema_url().from) else { return Vec::new() };
    let same = all.iter().filter(|(_, it)| it.follows().is_none() && it.schema == database.schema);
    let same = same.filter(|(_, it)| {
        secret::read_text(&it.url.from).is_ok_and(|other| connect::is_same(&address, &other))
    });
    let told = |(name, _): (&DatabaseName, _)| {
        format!(
            "database {name} is the same one, and code that uses it does not read by the views: it \
             fails at contract. Let it use this one, which can have an `owner` beside its `url`"
        )
    };
    same.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_undo_others_are_no_migrations_and_numbers_are_numbers() {
        for (name, forward) in [
            ("1_a.sql", true),
            ("1_a.up.sql", true),
            ("1_a.down.sql", false),
            ("1_a_down.sql", false),
            ("U2__x.sql", false),
            ("users.sql", true),
            ("20240101_init/migration.sql", true),
            ("readme.md", false),
        ] {
            assert_eq!(goes_forward(name), forward, "{name}");
        }
        let mut names = ["10_a.sql", "2_b.sql", "2_a/migration.sql", "V1.10__x.sql", "V1.9__x.sql"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(
            names,
            ["2_a/migration.sql", "2_b.sql", "10_a.sql", "V1.9__x.sql", "V1.10__x.sql"]
        );
    }

    #[test]
    fn the_way_back_in_a_file_is_left_out_and_lines_keep_their_numbers() {
        let text = "-- +goose Up\nCREATE TABLE a ();\n-- +goose Down\nDROP TABLE a;\n";
        assert_eq!(forward_part(text), "-- +goose Up\nCREATE TABLE a ();\n\n\n");
        let text = "-- migrate:up\nA;\n\n-- migrate:down\nB;";
        assert_eq!(forward_part(text), "-- migrate:up\nA;\n\n\n");
    }
}
