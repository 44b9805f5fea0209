//! What is said of rows that are there, before anything is run.

use std::time::Duration;

use evenkeel_postgres::execute::{Bounds, Session, ask};
use evenkeel_postgres::plan::{Probe, probes};
use evenkeel_postgres::sql::{Grammar as _, Squawk};
use evenkeel_postgres::wanted::Wanted;
use expect_test::{Expect, expect};

use crate::catalog::dump;
use crate::rig::{Database, lines, public, told};

/// What is to be asked for a migration.
fn asked(database: &Database, migration: &str) -> Vec<Probe> {
    let now = database.shape();
    let (statements, problems) = Squawk.read("change.sql", migration, &public());
    assert!(problems.is_empty(), "{problems:?}");
    let wanted = Wanted::after(&now, &statements, &Squawk).expect("it is understood");
    probes(&now, &wanted, 2)
}

/// What is said then.
fn answers(database: &Database, probes: &[Probe], bounds: Bounds) -> String {
    let mut session = Session::new(database.connect());
    let hazards = ask(&mut session, &public(), probes, bounds);
    let hazards = hazards.unwrap_or_else(|error| panic!("{}", told(&error)));
    hazards.iter().map(|it| format!("{it}\n")).collect()
}

fn said(database: &Database, migration: &str, bounds: Bounds) -> String {
    answers(database, &asked(database, migration), bounds)
}

fn says(before: &str, migration: &str, expected: &Expect) {
    for database in Database::each() {
        let mut owner = database.with(before);
        let there = dump(&mut owner);
        expected.assert_eq(&said(&database, migration, Bounds::default()));
        assert!(dump(&mut owner) == there, "it changed something");
    }
}

const TABLES: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, code int);
    CREATE TABLE child (id int PRIMARY KEY, parent int, code int, note text);
    INSERT INTO parent SELECT n, n FROM generate_series(1, 10) n;
    INSERT INTO child SELECT n, n % 12, n / 2, nullif(n, 17)::text FROM generate_series(1, 30) n;
    ANALYZE";

#[test]
fn rows_that_break_a_new_rule_are_counted_and_one_is_named() {
    says(
        TABLES,
        "ALTER TABLE child ALTER note SET NOT NULL;
         ALTER TABLE child ADD CONSTRAINT few CHECK (code < 15);
         ALTER TABLE child ADD CONSTRAINT one_code UNIQUE (code);
         ALTER TABLE child ADD CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent;
         CREATE UNIQUE INDEX one_child ON child (parent)",
        &expect![[r#"
            warning: rows of "child" have NULL in "note": 1, such as id 17; they would take the release back
            warning: rows of "child" break "few": 1, such as id 30; they would take the release back
            warning: rows of "child" break "one_code": 14, such as id 10; they would take the release back
            warning: rows of "child" break "to_parent": 4, such as id 11; they would take the release back
            warning: rows of "child" break "one_child": 12, such as id 1; they would take the release back
        "#]],
    );
}

#[test]
fn new_columns_are_told_by_what_they_will_be_filled_with() {
    says(
        TABLES,
        "ALTER TABLE child ADD region text NOT NULL; -- up: CASE WHEN id < 28 THEN 'south' END
         ALTER TABLE child ADD CONSTRAINT one_region UNIQUE (region);
         ALTER TABLE parent ALTER code TYPE bigint;
         ALTER TABLE parent ADD CHECK (code < 10);
         ALTER TABLE child ALTER parent TYPE bigint;
         ALTER TABLE child ADD CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent;
         ALTER TABLE child ADD level int NOT NULL DEFAULT 7 CHECK (level > 8);",
        &expect![[r#"
            warning: rows of "child" have NULL in "region": 3, such as id 28; they would take the release back (change.sql:1)
            warning: rows of "child" break "one_region": 1, such as id 1; they would take the release back
            warning: rows of "child" break "to_parent": 4, such as id 11; they would take the release back
            warning: rows of "child" break "child_level_check": 30, such as id 1; they would take the release back
            warning: rows of "parent" break "parent_code_check": 1, such as id 10; they would take the release back
        "#]],
    );
}

#[test]
fn values_that_cannot_be_had_are_told_once() {
    says(
        TABLES,
        "UPDATE parent SET code = 1 WHERE id = 0;
         ALTER TABLE child ALTER note TYPE smallint USING (note || '0000')::smallint; -- down: note::text
         ALTER TABLE child ALTER note SET NOT NULL;
         ALTER TABLE child ADD n int; -- up: nextval('parent_ids')
        ",
        &expect![[r#"
            warning: rows of "child" cannot be filled: value "40000" is out of range for type smallint; they would take the release back (change.sql:2)
        "#]],
    );
}

#[test]
fn rows_that_fit_are_not_mentioned_nor_those_that_the_change_mends() {
    says(
        TABLES,
        "ALTER TABLE parent ADD CONSTRAINT one_code UNIQUE (code);
         ALTER TABLE parent ADD CHECK (code > 0);
         ALTER TABLE parent ADD twice bigint NOT NULL; -- up: code * 2
         DELETE FROM child WHERE note IS NULL;
         ALTER TABLE child ALTER note SET NOT NULL; -- up: note
        ",
        &expect![[""]],
    );
}

#[test]
fn what_is_not_looked_at_is_said() {
    let Some(database) = Database::new() else { return };
    drop(database.with(TABLES));
    drop(database.with(
        "CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
             $$ BEGIN PERFORM pg_sleep(0.1); RETURN n; END $$;
         CREATE FUNCTION writes(n int) RETURNS int LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO parent VALUES (99, 99); RETURN n; END $$",
    ));
    let said = |migration: &str, bounds: Bounds| said(&database, migration, bounds);
    let short = Bounds { each: Duration::from_millis(50), ..Bounds::default() };
    let slow = "ALTER TABLE child ADD n int; -- up: slowly(id)";
    let rule = "ALTER TABLE child ADD CHECK (code < 0)";
    let not_asked = [
        said(slow, short),
        said("ALTER TABLE child ADD n int; -- up: writes(id)", Bounds::default()),
        said("ALTER TABLE child ADD n int; -- up: unknown(id)", Bounds::default()),
        said(rule, Bounds { bytes: 100, ..Bounds::default() }),
        said(rule, Bounds { all: Duration::ZERO, ..Bounds::default() }),
    ];
    expect![[r#"
        note: whether rows of "child" lack a value for "n" is not known: canceling statement due to statement timeout (change.sql:1)
        note: whether rows of "child" lack a value for "n" is not known: function unknown(integer) does not exist (change.sql:1)
        note: the rows of "child" were not looked at: they are 0 MB
        note: not all rows were looked at: that takes more than 0 s
    "#]].assert_eq(&not_asked.concat());
    // Nobody waits for a table that somebody else has.
    let probes = asked(&database, rule);
    let mut other = database.with("BEGIN; LOCK TABLE child");
    expect![[r#"
        note: whether rows of "child" break "child_code_check" is not known: canceling statement due to lock timeout
    "#]].assert_eq(&answers(&database, &probes, Bounds::default()));
    other.batch_execute("COMMIT").expect("it ends");
    assert_eq!(lines(&mut other, "SELECT count(*) FROM parent"), "10");
}

#[test]
fn texts_that_are_too_long_are_told() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b varchar(9));
         INSERT INTO t VALUES (1, 'abc', 'abc'), (2, 'abcd', 'abc')",
        "ALTER TABLE t ALTER a TYPE varchar(3); ALTER TABLE t ALTER b TYPE char(5)",
        &expect![[r#"
            warning: rows of "t" have more than 3 characters in "a": 1, such as id 2; they would take the release back (change.sql:1)
        "#]],
    );
    let Some(database) = Database::new() else { return };
    drop(
        database
            .with("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (2, 'abcd')"),
    );
    let plan = database.plan("ALTER TABLE t ALTER a TYPE varchar(3)");
    let mut executor = database.executor();
    executor.expand(&plan).expect("it is expanded");
    let failed = executor.fill(&plan, &mut |_| true).expect_err("nothing is cut");
    assert!(failed.is_final(), "{failed}");
}
