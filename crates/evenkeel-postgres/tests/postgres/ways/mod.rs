//! Every operation from its beginning to both ends, by a role that owns nothing: what is there after
//! contract is what the same SQL run plainly would have made, and what is there after undo is what
//! was there before.

mod carried;
mod columns;
mod hung;
mod rules;
mod tables;

use postgres::Client;

use crate::catalog::{differences, dump};
use crate::rig::{Database, lines, told};

/// A change, and who writes what meanwhile.
#[derive(Default)]
struct Way {
    before: &'static str,
    migration: &'static str,
    /// What comes to the same when it is run plainly, where the migration itself does not.
    plain: Option<&'static str>,
    /// Statements of the old code, run in every phase until contract.
    old: &'static [&'static str],
    /// Statements of the new code, run in every phase.
    new: &'static [&'static str],
    /// Statements of the new code that want the rules of the new shape, run from the end of
    /// tightening on.
    ready: &'static [&'static str],
    /// A query of the old and one of the new code that must give the same once all rows are filled.
    same: &'static [(&'static str, &'static str)],
    /// What undo cannot take back, as the dump of the catalog has it.
    stays: &'static str,
    /// Servers older than this cannot do it.
    since: u32,
}

/// Gives everything in the schema to a role that owns nothing of it.
const ROLE: &str = "
    DO $$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL;
                WHEN unique_violation THEN NULL; END $$;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO app;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO pg_monitor;";

fn run(client: &mut Client, statements: &[&str], when: &str) {
    for statement in statements {
        client
            .simple_query(statement)
            .unwrap_or_else(|error| panic!("{when}: {statement}: {}", told(&error)));
    }
}

fn same(old: &mut Client, new: &mut Client, way: &Way, when: &str) {
    for (by_old, by_new) in way.same {
        assert_eq!(lines(old, by_old), lines(new, by_new), "{when}: {by_old} | {by_new}");
    }
}

fn alike(is: &str, should: &str, when: &str) {
    let differences = differences(is, should);
    assert!(differences.is_empty(), "{when}: + is there, - should be\n{differences}");
}

/// Goes the way to both ends, on every server that is here.
fn go(way: &Way) {
    let ends = |contract: bool, skipped: usize, at_most: usize| {
        for database in Database::each().into_iter().skip(skipped).take(at_most) {
            let version = database.version();
            if version >= way.since {
                go_on(way, &database, version, contract);
            }
        }
    };
    // To both ends on the one that is installed, and to one end on each other.
    ends(true, 0, 1);
    ends(false, 0, 2);
    ends(true, 2, usize::MAX);
}

fn go_on(way: &Way, database: &Database, version: u32, contract: bool) {
    let when = |phase: &str| format!("{phase}, PostgreSQL {version}, contract: {contract}");
    let mut owner = database.with(ROLE);
    let by_app = |views: Option<&str>| {
        let views = views.map(|it| format!("\"{it}\", ")).unwrap_or_default();
        database.with(&format!("SET search_path = {views}public; SET ROLE app"))
    };
    owner.batch_execute(way.before).unwrap_or_else(|error| panic!("before: {}", told(&error)));
    let before = dump(&mut owner);
    let mut old = by_app(None);
    run(&mut old, way.old, &when("before"));

    let plan = database.plan(way.migration);
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>, what: &str| {
        let plan = serde_json::to_string_pretty(&plan).unwrap_or_default();
        done.unwrap_or_else(|error| panic!("{}: {}\n{plan}", when(what), told(&error)));
    };
    ok(executor.expand(&plan), "expand");
    let mut new = by_app(Some(plan.views.as_str()));
    run(&mut old, way.old, &when("expanded"));
    run(&mut new, way.new, &when("expanded"));
    run(&mut old, way.old, &when("expanded"));
    ok(executor.fill(&plan, &mut |_| true).map(drop), "fill");
    same(&mut old, &mut new, way, &when("filled"));
    run(&mut new, way.new, &when("filled"));
    run(&mut old, way.old, &when("filled"));
    ok(executor.tighten(&plan), "tighten");
    run(&mut old, way.old, &when("ready"));
    run(&mut new, way.new, &when("ready"));
    run(&mut new, way.ready, &when("ready"));
    same(&mut old, &mut new, way, &when("ready"));
    if contract {
        ok(executor.contract(&plan), "contract");
        run(&mut new, way.new, &when("contracted"));
        run(&mut new, way.ready, &when("contracted"));
        run(&mut by_app(None), way.new, &when("contracted, the tables"));
        let (plain, plain_way) = (database.another(), way.plain.unwrap_or(way.migration));
        let mut plain = plain.with(&format!("{ROLE}; {}", way.before));
        plain.batch_execute(plain_way).unwrap_or_else(|error| panic!("plainly: {}", told(&error)));
        alike(&dump(&mut owner), &dump(&mut plain), &when("contracted"));
    } else {
        ok(executor.undo(&plan), "undo");
        run(&mut old, way.old, &when("undone"));
        let differences = differences(&dump(&mut owner), &before);
        assert_eq!(differences, way.stays, "{}: + is there, - should be", when("undone"));
    }
}
