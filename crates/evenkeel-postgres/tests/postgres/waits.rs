//! Who is in the way is told while it is waited for, and what is waited for is done when they go.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evenkeel_postgres::catalog;
use evenkeel_postgres::execute::{Executor, Patience, Session, waits_for};
use evenkeel_postgres::plan::Plan;
use evenkeel_postgres::sql::Squawk;
use postgres::Client;

use crate::rig::{Database, public, told};

/// An executor that has little patience, and tells what it waits for.
fn executor(
    database: &Database,
    mut hear: impl FnMut(Option<String>) + Send + 'static,
) -> Executor {
    let waiting = Box::new(move |what: Option<&str>| hear(what.map(str::to_owned)));
    let session = Session::new(database.connect()).waits_told_to(waiting);
    let mut executor = Executor::new(session, &public()).expect("nobody else has it");
    executor.patience = Patience { between: Duration::from_millis(100), ..executor.patience };
    executor
}

/// Does something that another transaction is in the way of, which ends by `end` when it is told of;
/// gives what was told.
fn told_until(
    database: &Database,
    mut other: Client,
    end: &'static str,
    work: impl FnOnce(&mut Executor),
) -> Vec<Option<String>> {
    let (tell, hears) = mpsc::channel();
    let mut executor = executor(database, move |what| {
        if what.is_some() {
            other.batch_execute(end).expect("it ends");
        }
        tell.send(what).expect("somebody hears");
    });
    work(&mut executor);
    drop(executor);
    hears.iter().collect()
}

fn plan(database: &Database) -> Plan {
    drop(database.with(
        "CREATE TABLE orders (id int PRIMARY KEY, n int);
         INSERT INTO orders SELECT n, n FROM generate_series(1, 100) n; ANALYZE orders",
    ));
    database.plan("ALTER TABLE orders ALTER n TYPE bigint; CREATE INDEX ON orders (n)")
}

fn done(result: Result<(), evenkeel_postgres::execute::Failed>) {
    result.unwrap_or_else(|error| panic!("{}", told(&error)));
}

/// Checks what was told of one who is in the way, and that it was taken back.
fn says(heard: &[Option<String>], words: &[&str]) {
    let [Some(first), .., None] = heard else { panic!("{heard:?}") };
    for word in words {
        assert!(first.contains(word), "{word:?} in {first}");
    }
}

#[test]
fn a_reader_who_keeps_a_table_is_named_with_what_it_holds() {
    for database in Database::each() {
        let plan = plan(&database);
        // Another one that is open for long, and holds nothing of it.
        let mut idle = database.connect();
        idle.batch_execute("BEGIN; SELECT count(*) FROM pg_class").expect("a transaction");
        let other = database.with("SET application_name = 'report'; BEGIN; SELECT * FROM orders");
        let heard = told_until(&database, other, "COMMIT", |executor| done(executor.expand(&plan)));
        says(
            &heard,
            &[
                "no short lock on",
                "of owner, report, in a transaction for ",
                " s, holds AccessShareLock on orders",
            ],
        );
        assert!(!heard[0].as_deref().unwrap_or_default().contains(';'), "{heard:?}");
    }
}

#[test]
fn a_writer_who_keeps_a_row_is_named_while_it_is_to_be_filled() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    done(database.executor().expand(&plan));
    let other = database.with("SET application_name = 'writer'; BEGIN; UPDATE orders SET id = id");
    let heard = told_until(&database, other, "ROLLBACK", |executor| {
        executor.fill(&plan, &mut |_| true).unwrap_or_else(|error| panic!("{}", told(&error)));
    });
    says(&heard, &["of owner, writer, ", "RowExclusiveLock on orders"]);
}

#[test]
fn a_prepared_transaction_is_named() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    let mut other = database.with("BEGIN; SELECT * FROM orders; PREPARE TRANSACTION 'half'");
    other.batch_execute("SELECT 1").expect("it answers");
    let heard = told_until(&database, other, "ROLLBACK PREPARED 'half'", |executor| {
        done(executor.expand(&plan));
    });
    says(&heard, &["the prepared transaction half of owner, holds AccessShareLock on orders"]);
}

/// An index waits within one statement, so another session has to look.
#[test]
fn who_keeps_an_index_from_being_built_is_seen_from_beside() {
    let Some(database) = Database::new() else { return };
    let plan = plan(&database);
    let mut executor = database.executor();
    done(executor.expand(&plan));
    executor.fill(&plan, &mut |_| true).unwrap_or_else(|error| panic!("{}", told(&error)));
    let pid = executor.pid().expect("a number");
    let mut beside = Session::new(database.connect());
    assert_eq!(waits_for(&mut beside, pid).expect("an answer"), None);
    let mut other = database
        .with("SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    thread::scope(|scope| {
        let building = scope.spawn(|| done(executor.tighten(&plan)));
        let who = loop {
            assert!(!building.is_finished(), "it waits");
            if let Some(who) = waits_for(&mut beside, pid).expect("an answer") {
                break who;
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert!(who.contains("of owner, report, in a transaction for "), "{who}");
        other.batch_execute("COMMIT").expect("it ends");
        building.join().expect("it is built");
    });
}

#[test]
fn a_shape_is_not_waited_for_as_long_as_somebody_has_a_table() {
    let Some(database) = Database::new() else { return };
    drop(database.with("CREATE TABLE t (id int PRIMARY KEY)"));
    let mut other = database.with("BEGIN; LOCK TABLE t");
    let read = || catalog::read(&mut database.connect(), &public(), &Squawk);
    let refused = read().expect_err("it is not waited for");
    assert!(told(&refused).contains("lock timeout"), "{}", told(&refused));
    other.batch_execute("COMMIT").expect("it ends");
    assert_eq!(read().expect("a shape").tables.len(), 1);
}
