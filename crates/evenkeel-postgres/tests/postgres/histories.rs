//! The migrations of published applications, each carried out as a release would, to the same schema
//! that they make when they are run plainly.
//!
//! `.ci/histories` fetches them. A folder is a history; its files are applied in the order of their
//! names, several at once, as a release of that many would. Where one asks what SQL cannot tell, its
//! release is run by hand, and the next one goes on from there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use evenkeel_postgres::plan;
use evenkeel_postgres::problem::Problem;
use evenkeel_postgres::sql::{Grammar as _, Squawk};
use evenkeel_postgres::wanted::Wanted;
use postgres::Client;

use crate::catalog::{differences, dump};
use crate::rig::{Database, histories, migrations, public, told};

/// Most questions that all histories come to: what old code shall find where NULL was refused, what
/// takes back a value that an expression made, and statements that are not modelled.
const QUESTIONS_MAX: usize = 24;

/// What became of a history.
#[derive(Debug, Default)]
struct Count {
    files: usize,
    statements: usize,
    /// Answers that were missing, and statements that are not modelled.
    problems: Vec<String>,
    /// Files that were run by hand as there was a problem in their release.
    by_hand: usize,
    /// Releases that were planned and could not be carried out.
    failed: Vec<String>,
}

/// How many files one release has; `EVENKEEL_FILES_AT_ONCE` says otherwise.
fn at_once() -> usize {
    let said = std::env::var("EVENKEEL_FILES_AT_ONCE").ok();
    said.and_then(|it| it.parse().ok()).filter(|it| *it > 0).unwrap_or(12)
}

/// Applies files as a release does; without a reason where there were questions.
fn release(
    database: &Database,
    files: &[(PathBuf, String)],
    count: &mut Count,
) -> Result<(), String> {
    let (mut statements, mut problems) = (Vec::new(), Vec::new());
    for (file, sql) in files {
        let name = file.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let (read, wrong) = Squawk.read(&name, sql, &public());
        statements.extend(read);
        problems.extend(wrong);
    }
    count.statements += statements.len();
    let now = database.shape();
    let mut executor = database.executor();
    let ledger = executor.ledger().map_err(|error| told(&error))?;
    let plan = Wanted::after(&now, &statements, &Squawk)
        .and_then(|wanted| plan::derive(&now, &wanted, ledger.next(), ledger.views().cloned()));
    let plan = match plan {
        Ok(plan) if problems.is_empty() => plan,
        other => {
            problems.extend(other.err().unwrap_or_default());
            let first = |it: &Problem| it.to_string().lines().next().map(str::to_owned);
            count.problems.extend(problems.iter().filter_map(first));
            return Err(String::new());
        }
    };
    let say = |error: evenkeel_postgres::execute::Failed| told(&error);
    executor.expand(&plan).map_err(say)?;
    executor.fill(&plan, &mut |_| true).map_err(say)?;
    executor.tighten(&plan).map_err(say)?;
    executor.contract(&plan).map_err(say)
}

fn plainly(client: &mut Client, sql: &str) -> Result<(), String> {
    client.batch_execute(sql).map_err(|error| {
        drop(client.batch_execute("ROLLBACK"));
        told(&error)
    })
}

/// Goes through a history; a file that cannot be released is run plainly, and the next one released.
fn history(folder: &Path, database: &Database) -> (Count, String) {
    let files = migrations(folder);
    let (mut ours, mut plain) = (database.connect(), database.another().connect());
    let mut count = Count::default();
    for files in files.chunks(at_once()) {
        let mut sqls = Vec::new();
        for file in files {
            let sql = std::fs::read_to_string(file).expect("a file");
            // One that PostgreSQL refuses says nothing.
            match plainly(&mut plain, &sql) {
                Ok(()) => sqls.push((file.clone(), sql)),
                Err(why) => eprintln!("not SQL that can be run here: {}: {why}", file.display()),
            }
        }
        count.files += sqls.len();
        if let Err(why) = release(database, &sqls, &mut count) {
            count.by_hand += sqls.len();
            if !why.is_empty() {
                let first = sqls.first().map(|(file, _)| file.display().to_string());
                count.failed.push(format!("{}: {why}", first.unwrap_or_default()));
                let ledger = database.executor().ledger().ok();
                if let Some(active) = ledger.as_ref().and_then(|it| it.active()) {
                    drop(database.executor().undo(&active.plan));
                }
            }
            // The views of the revision before would be in the way of what is run by hand.
            let views = database.executor().ledger().ok().and_then(|it| it.views().cloned());
            if let Some(views) = views {
                drop(ours.batch_execute(&format!("DROP SCHEMA IF EXISTS {views} CASCADE")));
            }
            for (file, sql) in &sqls {
                if let Err(why) = plainly(&mut ours, sql) {
                    count.failed.push(format!("{} plainly: {why}", file.display()));
                }
            }
        }
        if std::env::var_os("EVENKEEL_STEPS").is_some() {
            let differences = differences(&dump(&mut ours), &dump(&mut plain));
            assert!(differences.is_empty(), "{files:?}:\n{differences}");
        }
    }
    (count, differences(&dump(&mut ours), &dump(&mut plain)))
}

#[test]
fn published_histories_come_to_the_schema_that_they_make_plainly() {
    let folders = histories();
    let only = std::env::var("EVENKEEL_HISTORY").ok();
    let mut said = String::new();
    let (mut wrong, mut questions) = (0, 0);
    for folder in folders.iter().filter(|it| only.as_ref().is_none_or(|only| it.ends_with(only))) {
        let Some(database) = Database::new() else { return };
        let (count, differences) = history(folder, &database);
        let name = folder.file_name().map(|it| it.to_string_lossy()).unwrap_or_default();
        let _ = writeln!(
            said,
            "{name}: {} files, {} statements, {} questions, {} files by hand, {} failed",
            count.files,
            count.statements,
            count.problems.len(),
            count.by_hand,
            count.failed.len()
        );
        for what in &count.problems {
            let _ = writeln!(said, "    {what}");
        }
        questions += count.problems.len();
        for failed in &count.failed {
            let _ = writeln!(said, "    FAILED {failed}");
        }
        wrong += count.failed.len() + differences.lines().count();
        let _ = write!(said, "{differences}");
    }
    eprintln!("{said}");
    assert_eq!(wrong, 0, "{said}");
    assert!(questions <= QUESTIONS_MAX, "{said}");
}
