//! Of two who would carry out plans of one schema, one does: the later of one home, and whoever came
//! first of two homes.

use std::sync::{Arc, Mutex};

use evenkeel_postgres::execute::{Driver, Executor, Failed, Session};
use evenkeel_postgres::plan::Plan;
use postgres::Client;
use postgres::error::SqlState;

use crate::catalog::dump;
use crate::rig::{Database, lines, public, told};

fn driver(home: &str, epoch: u64) -> Driver {
    Driver { home: home.to_owned(), epoch }
}

fn driven_by(database: &Database, home: &str, epoch: u64) -> Result<Executor, Failed> {
    Executor::driven_by(Session::new(database.connect()), &public(), &driver(home, epoch))
}

fn plan(database: &Database) -> Plan {
    drop(database.with(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;
         CREATE TABLE u (id int PRIMARY KEY, n int); INSERT INTO u SELECT n, n FROM generate_series(1, 100) n",
    ));
    let plan = database.plan(
        "ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ADD CHECK (n > 0);
         INSERT INTO t VALUES (101, 101);
         CREATE TABLE w (id int PRIMARY KEY, n int); INSERT INTO w (id, n) SELECT id, n FROM u;",
    );
    assert_eq!((plan.backfills.len(), plan.copies.len(), plan.data.len()), (1, 1, 1));
    plan
}

fn done<T>(result: Result<T, Failed>) -> T {
    result.unwrap_or_else(|error| panic!("{}", told(&error)))
}

#[test]
fn a_later_control_takes_over_from_one_that_was_stopped_and_keeps_it_out() {
    for database in Database::each() {
        let plan = plan(&database);
        let mut earlier = done(driven_by(&database, "a", 1));
        done(earlier.expand(&plan));
        // The earlier one does nothing, and holds its lock.
        let mut later = done(driven_by(&database, "a", 2));
        done(later.fill(&plan, &mut |_| true));
        assert!(matches!(earlier.undo(&plan), Err(Failed::Database { .. })));
        assert!(matches!(driven_by(&database, "a", 1), Err(Failed::Superseded)));
        done(later.tighten(&plan));
        done(later.contract(&plan));
        // A restored journal goes on above, and the same control may lose its connection.
        drop(later);
        drop(done(driven_by(&database, "a", 2)));
        drop(done(driven_by(&database, "a", 1_700_000_000)));
    }
}

/// All that a plan changes, and how far it is.
fn all(client: &mut Client) -> String {
    let rows = "SELECT t::text FROM t ORDER BY id";
    let copied = match lines(client, "SELECT to_regclass('w')").as_str() {
        "~" => String::new(),
        _ => lines(client, "SELECT count(*) FROM w"),
    };
    let stages = "SELECT number, stage FROM evenkeel.revision ORDER BY number";
    [dump(client), lines(client, rows), copied, lines(client, stages)].join("\n")
}

/// Where the session of the earlier one was not ended, each of its transactions is refused: before
/// each statement in turn another one takes over, as soon as no transaction is under way.
#[test]
fn no_step_of_an_earlier_control_is_taken() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    let mut refused = 0;
    for (epoch, at) in (1..).step_by(2).zip(0..) {
        let before = Arc::new(Mutex::new(None));
        let found = Arc::clone(&before);
        let mut heard = 0;
        let mut later = database.with("SET lock_timeout = '50ms'");
        let session = Session::new(database.connect()).heard_by(Box::new(move |_| {
            heard += 1;
            let mut found = found.lock().expect("no panic");
            let take = format!("UPDATE evenkeel.driver SET epoch = {}", epoch + 1);
            if heard > at
                && found.is_none()
                && later.execute(&take, &[]).is_ok_and(|rows| rows == 1)
            {
                *found = Some(all(&mut later));
            }
        }));
        let done =
            Executor::driven_by(session, &public(), &driver("a", epoch)).and_then(|mut it| {
                it.expand(&plan)?;
                it.fill(&plan, &mut |_| true)?;
                it.tighten(&plan)?;
                it.contract(&plan)
            });
        let before = before.lock().expect("no panic").take();
        match done {
            Ok(()) => break,
            Err(Failed::Superseded) => refused += 1,
            Err(error) => panic!("before statement {at}: {}", told(&error)),
        }
        let before = before.expect("another one took over");
        assert_eq!(all(&mut database.connect()), before, "before statement {at}");
    }
    assert!(refused > 30, "{refused} were refused");
}

#[test]
fn a_take_over_waits_for_the_transaction_under_way() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    let mut other = database.with("SET lock_timeout = '50ms'");
    let tried = Arc::new(Mutex::new(Vec::new()));
    let tries = Arc::clone(&tried);
    let session = Session::new(database.connect()).heard_by(Box::new(move |statement| {
        // The transaction of a phase is open when this is heard.
        if statement.contains("LOCK TABLE") {
            let error = other.batch_execute("UPDATE evenkeel.driver SET epoch = 9").err();
            tries.lock().expect("no panic").push(error.and_then(|it| it.code().cloned()));
        }
    }));
    let mut executor = done(Executor::driven_by(session, &public(), &driver("a", 1)));
    done(executor.expand(&plan));
    assert_eq!(*tried.lock().expect("no panic"), [Some(SqlState::LOCK_NOT_AVAILABLE)]);
}

#[test]
fn of_two_homes_the_first_acts_until_it_goes() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    let mut first = done(driven_by(&database, "a", 7));
    done(first.expand(&plan));
    assert!(matches!(driven_by(&database, "b", 9), Err(Failed::Busy)));
    done(first.fill(&plan, &mut |_| true));
    drop(first);
    // A machine that was lost does not come back; its epochs say nothing here.
    let mut second = done(driven_by(&database, "b", 1));
    done(second.tighten(&plan));
}
