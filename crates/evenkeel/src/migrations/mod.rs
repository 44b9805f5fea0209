//! What the schemas of databases follow: the migrations in a folder, or the desired schema in a file;
//! and what these come to in the database that is there.

mod files;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::files::{Migration, desired, read};
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
