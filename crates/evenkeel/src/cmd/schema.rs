//! `evenkeel schema`: how the schemas of databases change. Asks the databases themselves, and no
//! control; so it works in CI, and where nothing runs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use evenkeel_kernel::model::{Database, DatabaseName, Follows};
use evenkeel_kernel::spec;
use evenkeel_kernel::world::Filling;
use evenkeel_postgres::desired;
use evenkeel_postgres::execute::{self, Entry, Executor, Session, Stage, look};
use evenkeel_postgres::name::Name;
use evenkeel_postgres::plan::{self, File, Plan, Step};
use evenkeel_postgres::problem::Problem;
use evenkeel_postgres::shape::Shape;
use evenkeel_postgres::sql::Squawk;
use evenkeel_postgres::wanted::Wanted;
use serde_json::json;

use crate::cli::Schema;
use crate::exit::Exit;
use crate::migrations::{self, Migration};
use crate::stackfile;
use crate::term::{self, Tone, paint};

/// How long is looked at how fast rows are filled.
const MOMENT: Duration = Duration::from_secs(1);

/// A database whose schema follows files.
type Migrated = (DatabaseName, Database);

pub(super) fn run(args: &Schema, json: bool) -> anyhow::Result<Exit> {
    match args {
        Schema::Plan { file, sql } => planned(&databases(file.file.as_deref())?, *sql, json),
        Schema::Status { file } => status(&databases(file.file.as_deref())?, json),
        Schema::Lint { file, migrations } => {
            lint(&databases(file.file.as_deref())?, migrations, json)
        }
        Schema::History { file } => history(&databases(file.file.as_deref())?, json),
        Schema::Adopt { database, file, through } => {
            adopt(&databases(file.file.as_deref())?, database, through.as_deref(), json)
        }
    }
}

/// The databases of a stack file whose schema follows migrations. What else is wrong with the file
/// is not said here, unless nothing can be read.
fn databases(file: Option<&Path>) -> anyhow::Result<Vec<Migrated>> {
    let path = stackfile::find(file)?;
    let doing = || format!("could not read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(doing)?;
    let absolute = std::path::absolute(&path).with_context(doing)?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let draft = spec::draft(&text, &folder);
    let all: Vec<Migrated> =
        draft.migrated().map(|(name, it)| (name.clone(), it.clone())).collect();
    if all.is_empty() {
        bail!(
            "no database in {} has `migrations` or `desired`; `evenkeel reference` shows how to say it, and \
             `evenkeel plan` what is wrong with the file",
            path.display()
        );
    }
    Ok(all)
}

fn planned(databases: &[Migrated], sql: bool, as_json: bool) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut all = Vec::new();
    for (name, database) in databases {
        let Some(plan) = migrations::look_at(name, database)? else {
            if !as_json {
                term::line(&format!("database {name}: nothing to do"));
            }
            continue;
        };
        exit = Exit::Changes;
        if as_json {
            all.push(json!({ "database": name.as_str(), "plan": plan }));
        } else {
            show(name, &plan, sql)?;
        }
    }
    if as_json {
        term::json(&all)?;
    }
    Ok(exit)
}

fn show(name: &DatabaseName, plan: &Plan, sql: bool) -> anyhow::Result<()> {
    let change = migrations::change(plan)?;
    let files = match change.files.as_slice() {
        [] => "the schema as it is".to_owned(),
        files => files.join(", "),
    };
    term::line(&paint(
        Tone::Bold,
        &format!("database {name}: revision {} from {files}", plan.revision),
    ));
    for (phase, lines) in
        [("changes", &plan.changes), ("expand", &change.expand), ("contract", &change.contract)]
    {
        for (at, line) in lines.iter().enumerate() {
            let line = line.replace('\n', "\n          ");
            term::line(&format!("{:<10}{line}", if at == 0 { phase } else { "" }));
        }
    }
    for lost in &change.loses {
        let text = format!("{lost} is not there for code of the new revision");
        term::line(&format!("{:<10}{text}", "loses"));
    }
    for hazard in &plan.hazards {
        term::line(&paint(Tone::Warn, &hazard.to_string()));
    }
    if sql {
        for (phase, statements) in phases(plan) {
            term::line("");
            term::line(&paint(Tone::Dim, &format!("-- {phase}")));
            for statement in statements {
                term::line(&format!("{statement};"));
            }
        }
    }
    Ok(())
}

/// Every statement of a plan, by phase.
fn phases(plan: &Plan) -> Vec<(&'static str, Vec<String>)> {
    let whole = |phase: &plan::Phase| {
        let mut all = vec!["BEGIN".to_owned()];
        all.extend(phase.first.iter().cloned());
        if !phase.locks.is_empty() {
            all.push(format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", phase.locks.join(", ")));
        }
        all.extend(phase.statements.iter().cloned());
        all.push("COMMIT".to_owned());
        all
    };
    let fill = |it: &plan::Backfill| {
        format!("UPDATE {} SET {} WHERE {} -- in pieces", it.table, it.set, it.lacking)
    };
    let copy = |it: &plan::Copied| {
        let plan::Copied { into, columns, values, from, when, .. } = it;
        format!(
            "INSERT INTO {into} ({columns}) SELECT {values} FROM {from} WHERE {when} \
             ON CONFLICT DO NOTHING -- in pieces"
        )
    };
    let step = |it: &Step| match it {
        Step::Constrain { table, constraint, rule } => vec![
            format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} {rule} NOT VALID"),
            format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}"),
        ],
        Step::Index { sql, .. } => vec![sql.clone()],
    };
    vec![
        ("expand", whole(&plan.expand)),
        ("fill", plan.backfills.iter().map(fill).chain(plan.copies.iter().map(copy)).collect()),
        ("tighten", plan.tighten.iter().flat_map(step).collect()),
        ("contract", whole(&plan.contract)),
        ("or, on the way back", whole(&plan.undo)),
    ]
}

fn status(databases: &[Migrated], as_json: bool) -> anyhow::Result<Exit> {
    let mut all = Vec::new();
    for (name, database) in databases {
        let mut session = migrations::session(name, database)?;
        let ledger = look(&mut session, &Name::new(&database.schema))?;
        let waiting = migrations::waiting(name, database, &ledger, &mut session)?;
        let known = ledger.files();
        let active = ledger.active();
        let filling = match active.filter(|it| it.stage == Stage::Expanded) {
            Some(active) => filling(&mut session, database, active)?,
            None => None,
        };
        if as_json {
            let under_way = active.map(|it| {
                let mut entry = entry(it);
                if let Some(filling) = &filling {
                    entry["of_rows"] = json!(filling.of);
                    entry["rows_per_s"] = json!(filling.rate);
                    entry["left_s"] = json!(filling.left.map(|it| it.as_secs()));
                }
                entry
            });
            all.push(json!({
                "database": name.as_str(),
                "views": ledger.views().map(Name::as_str),
                "under_way": under_way,
                "waiting": waiting,
            }));
            continue;
        }
        let at = match ledger.views() {
            Some(views) if views.as_str() != database.schema => format!("code reads by {views}"),
            _ => "code reads the tables themselves".to_owned(),
        };
        let run = counted(known.len());
        let were = if known.len() == 1 { "was" } else { "were" };
        term::line(&format!("database {name}: {run} {were} run; {at}"));
        if let Some(active) = active {
            term::line(&format!(
                "  revision {} is {} since {}{}",
                active.revision,
                active.stage,
                active.changed,
                filling.map(|it| format!(", {it}")).unwrap_or_default()
            ));
        }
        if !waiting.is_empty() {
            term::line(&format!("  waiting for a release: {}", waiting.join(", ")));
        }
    }
    if as_json {
        term::json(&all)?;
    }
    Ok(Exit::Done)
}

/// How rows are being filled, if any are: how fast shows in how many more there are a moment later.
fn filling(
    session: &mut Session,
    database: &Database,
    active: &Entry,
) -> anyhow::Result<Option<Filling>> {
    let of: u64 = active.plan.rows().iter().map(|it| it.count).sum();
    if of == 0 {
        return Ok(None);
    }
    let schema = Name::new(&database.schema);
    let before = execute::filled(session, &schema, active.revision)?;
    let began = Instant::now();
    std::thread::sleep(MOMENT);
    let rows = execute::filled(session, &schema, active.revision)?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let rate = rows.saturating_sub(before) * 1000 / took.max(1);
    let of = of.max(rows);
    let left = (rate > 0).then(|| Duration::from_secs((of - rows) / rate));
    let permille = u16::try_from(rows * 1000 / of).unwrap_or(1000);
    Ok(Some(Filling { rows, of, permille, rate: Some(rate), left }))
}

fn counted(migrations: usize) -> String {
    if migrations == 1 { "1 migration".to_owned() } else { format!("{migrations} migrations") }
}

fn entry(it: &Entry) -> serde_json::Value {
    json!({
        "revision": it.revision,
        "stage": it.stage.to_string(),
        "files": it.plan.files.iter().map(|it| &it.name).collect::<Vec<_>>(),
        "began": it.began,
        "changed": it.changed,
        "rows_filled": it.filled,
    })
}

fn history(databases: &[Migrated], as_json: bool) -> anyhow::Result<Exit> {
    let mut all = Vec::new();
    let head = ["DATABASE", "REVISION", "STAGE", "BEGAN", "CHANGED", "MIGRATIONS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, database) in databases {
        let mut session = migrations::session(name, database)?;
        let ledger = look(&mut session, &Name::new(&database.schema))?;
        for it in &ledger.entries {
            let files: Vec<&str> = it.plan.files.iter().map(|it| it.name.as_str()).collect();
            rows.push(vec![
                name.to_string(),
                it.revision.to_string(),
                it.stage.to_string(),
                it.began.clone(),
                it.changed.clone(),
                files.join(", "),
            ]);
        }
        let entries: Vec<_> = ledger.entries.iter().map(entry).collect();
        all.push(json!({ "database": name.as_str(), "revisions": entries }));
    }
    if as_json {
        term::json(&all)?;
    } else {
        for line in term::table(&rows) {
            term::line(&line);
        }
    }
    Ok(Exit::Done)
}

fn lint(
    databases: &[Migrated],
    named: &[std::path::PathBuf],
    as_json: bool,
) -> anyhow::Result<Exit> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut hazards = Vec::new();
    let mut known = 0;
    for (name, database) in databases {
        let schema = Name::new(&database.schema);
        match database.follows() {
            Some(Follows::Migrations(folder)) => {
                let all = migrations::read(Path::new(folder))?;
                let newest = all.last().map(|it| it.name.clone());
                let mut now = Shape::empty(schema);
                for migration in &all {
                    let (wrong, found, next) = linted(&now, migration);
                    now = next;
                    let is_meant = match named {
                        [] => Some(&migration.name) == newest.as_ref(),
                        named => named.iter().any(|path| is_file(path, folder, &migration.name)),
                    };
                    if is_meant {
                        known += 1;
                        problems.extend(wrong);
                        hazards.extend(found.into_iter().map(|it| format!("{name}: {it}")));
                    }
                }
            }
            Some(Follows::Desired(file)) => {
                let one = migrations::desired(Path::new(file))?;
                if named.is_empty() || named.iter().any(|path| is_file(path, file, "")) {
                    known += 1;
                    problems.extend(desired::lint(&one.name, &one.text, &schema, &Squawk));
                }
            }
            None => {}
        }
    }
    if known == 0 && !named.is_empty() {
        bail!("none of these is a migration or the desired schema of a database in the stack file");
    }
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Error };
    if as_json {
        let problem = |it: &Problem| json!({ "file": it.at.file, "line": it.at.line, "message": it.what, "hint": it.hint });
        let problems: Vec<_> = problems.iter().map(problem).collect();
        term::json(&json!({ "problems": problems, "hazards": hazards }))?;
        return Ok(exit);
    }
    for problem in &problems {
        term::line(&paint(Tone::Bad, &problem.to_string()));
    }
    for hazard in &hazards {
        term::line(&paint(Tone::Warn, hazard));
    }
    if problems.is_empty() && hazards.is_empty() {
        let files = if known == 1 { "1 file".to_owned() } else { format!("{known} files") };
        term::line(&format!("{files}: nothing to say"));
    }
    Ok(exit)
}

/// Whether a path that was given is that of a file, below a folder.
fn is_file(path: &Path, folder: &str, name: &str) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let whole = if name.is_empty() { folder.into() } else { Path::new(folder).join(name) };
    absolute == whole || path == Path::new(name)
}

/// What is wrong with one migration, what is dangerous about it, and the shape that follows.
fn linted(now: &Shape, migration: &Migration) -> (Vec<Problem>, Vec<String>, Shape) {
    let one = std::slice::from_ref(migration);
    let (statements, wrong) = migrations::statements(one, &now.schema);
    if !wrong.is_empty() {
        return (wrong, Vec::new(), now.clone());
    }
    let wanted = match Wanted::after(now, &statements, &Squawk) {
        Ok(wanted) => wanted,
        Err(wrong) => return (wrong, Vec::new(), now.clone()),
    };
    let next = wanted.shape(now);
    // Who runs it, and how that reads, is not known here.
    let views = plan::views_of(&now.schema, 0);
    match plan::derive(now, &wanted, 1, Some(views)) {
        Ok(plan) => (Vec::new(), plan.hazards.iter().map(ToString::to_string).collect(), next),
        Err(wrong) => (wrong, Vec::new(), next),
    }
}

fn adopt(
    databases: &[Migrated],
    named: &str,
    through: Option<&str>,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let Some((name, database)) = databases.iter().find(|it| it.0.as_str() == named) else {
        let known: Vec<&str> = databases.iter().map(|it| it.0.as_str()).collect();
        bail!("there is no database {named} with migrations; there are {}", known.join(", "));
    };
    let Some(Follows::Migrations(folder)) = database.follows() else {
        bail!(
            "database {name} follows a desired schema, which is compared with what is there: \
             nothing has to be adopted; `evenkeel schema plan` shows what it lacks"
        );
    };
    let mut all = migrations::read(Path::new(folder))?;
    if let Some(through) = through {
        let Some(at) = all.iter().position(|it| it.name == through) else {
            bail!("there is no migration {through} in {folder}");
        };
        all.truncate(at + 1);
    }
    let session = migrations::session(name, database)?;
    let mut executor = Executor::new(session, &Name::new(&database.schema))?;
    let ledger = executor.ledger()?;
    let known = ledger.files();
    let files: Vec<File> = all
        .iter()
        .map(|it| File::of(&*it.name, &it.text))
        .filter(|it| known.get(it.name.as_str()) != Some(&it))
        .collect();
    let names: Vec<String> = files.iter().map(|it| it.name.clone()).collect();
    if !files.is_empty() {
        executor.adopt(files)?;
    }
    if as_json {
        term::json(&json!({ "database": named, "adopted": names }))?;
    } else if names.is_empty() {
        term::line(&format!("database {name}: all of it was known already"));
    } else {
        term::line(&format!("database {name}: adopted {}", names.join(", ")));
    }
    Ok(Exit::Done)
}
