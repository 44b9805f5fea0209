//! What a backfill leaves behind.

use evenkeel_postgres::execute::{self, Filled, Tuning};

use crate::rig::{Database, lines, public, told};

/// Rows that get wider than their pages can hold have to move; but those that stay are entered into
/// no index, and those that move take the room that others left.
#[test]
fn a_table_that_is_filled_does_not_double() {
    let Some(database) = Database::alone() else { return };
    // By a key that is a number, and by one that is not.
    for (table, key) in [("numbers", "n"), ("words", "md5(n::text)")] {
        let mut client = database.with(&format!(
            "CREATE TABLE {table} AS SELECT {key} AS id, n AS amount, n % 50 AS customer,
                 repeat('x', 60) AS filler FROM generate_series(1, 40000) n;
             ALTER TABLE {table} ADD PRIMARY KEY (id), SET (autovacuum_enabled = off);
             CREATE INDEX {table}_customer ON {table} (customer);
             ANALYZE {table}"
        ));
        let mut size = || {
            let query = format!("SELECT pg_relation_size('{table}'), pg_indexes_size('{table}')");
            let both = lines(&mut client, &query);
            let (table, indexes) = both.split_once(' ').expect("two numbers");
            [table, indexes].map(|it| it.parse::<f64>().expect("a number"))
        };
        let plan = database.plan(&format!("ALTER TABLE {table} ALTER COLUMN amount TYPE bigint;"));
        let mut executor = database.executor();
        executor.tuning = Tuning { region: 64, small: 1, ..Tuning::default() };
        executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        let before = size();
        // Stopped again and again, it goes on in the turn that it was in.
        let (mut pieces, mut rows) = (0, 0);
        let mut stop = |filled: &Filled| {
            rows = filled.rows;
            pieces += 1;
            assert!(pieces < 20_000, "it comes to an end");
            pieces % 5 != 0
        };
        let mut fill = || executor.fill(&plan, &mut stop);
        while !fill().unwrap_or_else(|error| panic!("{}", told(&error))) {}
        assert!(rows == 40_000 && pieces > 50, "{rows} rows in {pieces} pieces");
        let after = size();
        // Both would double if every row moved. What else the server does at the time costs some room.
        let growth = [after[0] / before[0] - 1.0, after[1] / before[1] - 1.0];
        assert!(growth[0] < 0.2 && growth[1] < 0.2, "{table}: {growth:?}");
        executor.tighten(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        executor.contract(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        let sum = format!("SELECT count(amount), sum(amount) FROM {table}");
        assert_eq!(lines(&mut client, &sum), "40000 800020000");
    }
}

#[test]
fn how_far_it_is_counts_all_tables_and_what_was_filled_before() {
    let Some(database) = Database::new() else { return };
    drop(database.with(
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);
         INSERT INTO a SELECT n, n FROM generate_series(1, 3000) n;
         INSERT INTO b SELECT n, n FROM generate_series(1, 9000) n; ANALYZE",
    ));
    let plan =
        database.plan("ALTER TABLE a ALTER n TYPE bigint; ALTER TABLE b ALTER n TYPE bigint;");
    let mut seen: Vec<Filled> = Vec::new();
    let mut executor = database.executor();
    executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
    loop {
        // Each goes on for two pieces.
        let mut pieces = 0;
        let whole = executor.fill(&plan, &mut |filled| {
            seen.push(filled.clone());
            pieces += 1;
            pieces < 2
        });
        if whole.unwrap_or_else(|error| panic!("{}", told(&error))) {
            break;
        }
    }
    let last = seen.last().expect("pieces");
    assert_eq!((last.rows, last.of), (12_000, 12_000));
    assert!((last.part - 1.0).abs() < 1e-9, "{}", last.part);
    assert!(seen.iter().all(|it| it.of == 12_000));
    for (before, after) in seen.iter().zip(&seen[1..]) {
        assert!(before.rows <= after.rows && before.part <= after.part, "{before:?} {after:?}");
    }
    // A quarter of the rows are those of the first table, and about a quarter of the work.
    let first = seen.iter().rfind(|it| it.table.contains("\"a\"")).expect("it is filled");
    assert!(first.rows == 3000 && (0.2..0.3).contains(&first.part), "{first:?}");
    let progress = execute::filled(executor.session(), &public(), plan.revision);
    assert_eq!(progress.expect("an answer"), 12_000);
}

/// Rows that cannot have their new value are named as far as the server names them.
#[test]
fn a_row_that_cannot_be_filled_is_named_with_its_table() {
    let cases = [
        (
            "UPDATE t SET word = 'many' WHERE id = 42",
            "ALTER TABLE t ALTER word TYPE int USING word::int -- down: word::text",
            "could not fill rows of \"public\".\"t\": invalid input syntax for type integer: \"many\"",
        ),
        (
            "CREATE TABLE seen (id int PRIMARY KEY CHECK (id < 40));
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END $$;
             CREATE TRIGGER see BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION see();
             ALTER TABLE t ENABLE ALWAYS TRIGGER see",
            "ALTER TABLE t ADD length bigint; -- up: length(word)",
            "could not fill rows of \"public\".\"t\": new row for relation \"seen\" violates check \
             constraint \"seen_id_check\"; Failing row contains (40).; SQL statement \"INSERT INTO \
             seen VALUES (NEW.id)\"",
        ),
    ];
    for (before, migration, expected) in cases {
        let Some(database) = Database::new() else { return };
        drop(database.with(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, word text);
             INSERT INTO t SELECT n, n FROM generate_series(1, 50) n; {before}"
        )));
        let plan = database.plan(migration);
        let mut executor = database.executor();
        executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        let error = executor.fill(&plan, &mut |_| true).expect_err("it cannot be filled");
        assert!(error.is_final());
        assert_eq!(told(&error), expected);
    }
}
