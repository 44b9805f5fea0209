//! What is said before anything is run: the hazards of a plan, and why there is none.

use evenkeel_postgres::kind::Kind;
use expect_test::{Expect, expect};

use crate::rig::Database;

/// What the plan for a migration says, or its problems.
fn says(before: &str, migration: &str, expected: &Expect) {
    let Some(database) = Database::new() else { return };
    drop(database.with(before));
    let said = match database.try_plan(migration) {
        Ok(plan) => plan.hazards.iter().map(|it| format!("{it}\n")).collect(),
        Err(problems) => problems + "\n",
    };
    expected.assert_eq(&said);
}

#[test]
fn rules_that_the_old_code_may_break_are_named() {
    says(
        "CREATE TABLE parent (id int PRIMARY KEY, name text);
         CREATE TABLE child (id int PRIMARY KEY, parent int, code int, note text, CHECK (code > 0))",
        "ALTER TABLE child ADD CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent;
         ALTER TABLE child ALTER note SET NOT NULL;
         ALTER TABLE child ADD CONSTRAINT one_code UNIQUE (code);
         ALTER TABLE child DROP CONSTRAINT child_code_check;
         ALTER TABLE parent DROP COLUMN name",
        &expect![[r#"
            warning: old code that writes NULL to "child"."note" fails once the rule is checked, before the new code gets traffic; `-- up: <expression>` keeps both right
            warning: old code that breaks "to_parent" of "child" fails once it is checked, before the new code gets traffic
            note: "to_parent" has no index on "parent": deleting what it points at reads all of "child"
            warning: old code that breaks "one_code" of "child" fails once it is checked, before the new code gets traffic
            note: "child_code_check" of "child" holds the new code too, until contract
            warning: what is in "parent"."name" is gone after contract (change.sql:5)
        "#]],
    );
}

#[test]
fn a_key_that_outgrows_what_points_at_it_is_named() {
    says(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent)",
        "ALTER TABLE parent ALTER id TYPE bigint",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            warning: "child_parent_fkey": "parent" is an integer and points at "id", a bigint, which outgrows it
            note: until contract a value of "parent"."id" must fit the old column too (change.sql:1)
            note: until contract "parent_pkey" of "parent" is held twice: of two INSERT … ON CONFLICT of the new code at the same moment one may fail with a duplicate key
        "#]],
    );
}

#[test]
fn what_is_filled_row_by_row_and_what_must_fit_is_named() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, n bigint, s text);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF TG_OP = 'UPDATE' THEN PERFORM pg_notify('t', ''); END IF; -- insert
             RETURN NEW; END $$;
         CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER told BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION g();
         CREATE TRIGGER logged AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER named AFTER UPDATE OF s ON t FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER kept AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f();
         INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n; ANALYZE t",
        "ALTER TABLE t ADD token uuid DEFAULT gen_random_uuid(); ALTER TABLE t ALTER n TYPE int",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            warning: old code that writes into "t"."n" what is no integer fails from expand on (change.sql:1)
            warning: these triggers of "t" run for every row that is filled, and what they do beside it is done, unless the role may set session_replication_role: "logged", "told"
            note: for rows that the new code writes, these triggers of "t" see what the old columns held before, until contract: "told", "touch"
            note: "n", "token" of "t" are filled row by row: about 1000 rows, 1 MB
        "#]],
    );
}

#[test]
fn what_it_costs_to_fill_a_large_table_is_said() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, n int, s text);
         INSERT INTO t SELECT n, n, repeat('s', 250) FROM generate_series(1, 60000) n; ANALYZE t",
        "ALTER TABLE t ALTER n TYPE bigint",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            note: until contract a value of "t"."n" must fit the old column too (change.sql:1)
            note: "n" of "t" are filled row by row: about 60000 rows, 19 MB; the table grows by about 7 % until it is rewritten, and about 46 MB of WAL are written
        "#]],
    );
}

#[test]
fn code_in_the_database_that_names_what_goes_is_named() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, full_name text, n int);
         CREATE FUNCTION lower_it() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.full_name = lower(NEW.full_name); RETURN NEW; END $$;
         CREATE TRIGGER lower_it BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION lower_it();
         CREATE FUNCTION find(text) RETURNS int LANGUAGE sql AS
             'SELECT id FROM t WHERE full_name = $1';
         CREATE VIEW large AS SELECT id, n FROM t WHERE n > 10",
        "ALTER TABLE t RENAME full_name TO name; ALTER TABLE t ALTER n TYPE bigint",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            note: until contract a value of "t"."n" must fit the old column too (change.sql:1)
            note: for rows that the new code writes, these triggers of "t" see what the old columns held before, until contract: "lower_it"
            warning: the trigger "lower_it" of "t" runs "lower_it", which names "full_name": after contract there is none, and writes fail; replace the function in the same migration
            warning: the function "find" names "t" and "full_name", which goes or is renamed
            note: the view "large" is made anew at contract, as what it reads changes
        "#]],
    );
}

#[test]
fn what_cannot_be_taken_back_is_named() {
    says(
        "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE TABLE u (id int PRIMARY KEY)",
        "ALTER TYPE mood ADD VALUE 'bad';
         UPDATE t SET n = 0 WHERE n < 0;
         INSERT INTO t VALUES (1, 1); -- undo: DELETE FROM t WHERE id = 1
         CREATE POLICY p ON t USING (true);
         DROP TABLE u",
        &expect![[r#"
            note: a new value of an enum cannot be taken back: undo leaves it there (change.sql:1)
            warning: `UPDATE t SET n …` writes rows before the new code gets traffic, and undo leaves them so; `-- undo: <statement>` takes it back (change.sql:2)
            note: the writes of the old code are subject to it too, from expand on (change.sql:4)
            warning: "u" and its rows are gone after contract (change.sql:5)
        "#]],
    );
}

#[test]
fn a_number_that_is_near_its_end_is_named() {
    says(
        "CREATE TABLE t (id serial PRIMARY KEY, note text);
         SELECT setval('t_id_seq', 1900000000)",
        "ALTER TABLE t ALTER note SET DEFAULT 'x'",
        &expect![[r#"
            warning: "t"."id" has used 88 % of the numbers of its type, integer: ALTER COLUMN "id" TYPE bigint while there is time
        "#]],
    );
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int, c int,
             d int GENERATED ALWAYS AS (c * 2) STORED);
         CREATE VIEW v AS SELECT id, b FROM t; CREATE MATERIALIZED VIEW m AS SELECT a FROM t;
         CREATE TABLE p (id int, n int) PARTITION BY RANGE (id)",
        "ALTER TABLE t ALTER a TYPE bigint; ALTER TABLE t DROP COLUMN b; ALTER TABLE t ALTER c TYPE bigint;
         CREATE INDEX p_n ON p (n); ALTER TABLE p ADD m int NOT NULL; -- up: n
        ",
        &expect![[r#"
            change.sql:2: "p" is partitioned, and filling "m" there is not modelled
            the database:1: "p" is partitioned, and building "p_n" there without blocking is not modelled
              help: build it on each partition CONCURRENTLY and attach it, with `-- undo: …` above each statement
            the database:1: the materialized view "m" reads what changes
              help: say what becomes of it: add `DROP MATERIALIZED VIEW "m";` and `CREATE MATERIALIZED VIEW "m" AS …`
            change.sql:1: the view "v" reads "t"."b", which goes
              help: say what becomes of it: add `DROP VIEW "v";`, and `CREATE VIEW "v" AS …` below if it shall stay
            change.sql:1: default value for column d of table t speaks of "t"."c", which goes or is replaced
              help: drop it before this statement, and make it anew below
        "#]],
    );
}

#[test]
fn a_type_that_a_column_cannot_get_is_refused() {
    says(
        "CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code int UNIQUE);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent (code),
             other int REFERENCES parent (code));
         CREATE TABLE old (id int PRIMARY KEY, n int); CREATE TABLE heir () INHERITS (old)",
        "ALTER TABLE parent ALTER id TYPE numeric, ALTER code TYPE numeric;
         ALTER TABLE child ALTER other TYPE text;
         ALTER TABLE old ALTER n TYPE bigint; ALTER TABLE heir ALTER n TYPE bigint",
        &expect![[r#"
            change.sql:3: "heir" inherits or is inherited, and filling "n" there is not modelled
            change.sql:3: "old" inherits or is inherited, and filling "n" there is not modelled
            change.sql:1: "parent"."id" is an identity, which is a smallint, an integer or a bigint, and no numeric
              help: `ALTER COLUMN "id" TYPE bigint`
            change.sql:2: "child_other_fkey" cannot point from "child"."other" (text) at "parent"."code" (numeric)
              help: change both in the same migration
        "#]],
    );
}

/// What is refused for its types the server refuses too, and the other way round.
#[test]
fn which_type_may_point_at_which_is_as_the_server_has_it() {
    let Some(database) = Database::new() else { return };
    let mut client = database.connect();
    let kinds = [
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "numeric(9,2)",
        "real",
        "double precision",
        "text",
        "character varying",
        "character(9)",
        "uuid",
        "boolean",
    ];
    for to in kinds {
        client.batch_execute(&format!("CREATE TABLE t (id {to} PRIMARY KEY)")).expect("a table");
        for from in kinds {
            let sql = format!("CREATE TABLE u (id {from} REFERENCES t); DROP TABLE u");
            let done = client.batch_execute(&sql).is_ok();
            let may = Kind::printed(from).may_point_at(&Kind::printed(to));
            assert_eq!(done, may, "{from} at {to}");
        }
        client.batch_execute("DROP TABLE t").expect("dropped");
    }
}

#[test]
fn a_column_that_a_publication_names_is_refused() {
    for database in Database::each().into_iter().filter(|it| it.version() >= 15) {
        drop(database.with(
            "CREATE TABLE t (id int PRIMARY KEY, n int, s text);
             CREATE PUBLICATION p FOR TABLE t (id, n)",
        ));
        let refused =
            database.try_plan("ALTER TABLE t ALTER n TYPE bigint").expect_err("it is named");
        assert!(refused.contains("in publication p speaks of"), "{refused}");
        database.plan("ALTER TABLE t ALTER s TYPE varchar(20)");
    }
}

#[test]
fn what_is_not_said_is_asked_for() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int, c int NOT NULL);
         CREATE TABLE gone (id int); CREATE TABLE moved (id int)",
        "ALTER TABLE t ALTER a DROP NOT NULL; ALTER TABLE t DROP COLUMN c;
         ALTER TABLE t ALTER b TYPE text USING b::text || '!';
         DROP TABLE gone; CREATE TABLE gone (id int);
         ALTER TABLE moved RENAME TO away; CREATE TABLE moved (id int);
         DO $$ BEGIN END $$",
        &expect![[r#"
            change.sql:1: "a" may be NULL from now on: what shall the old code find then?
              help: add beside it: `-- down: coalesce("a", <what stands for NULL>)`
            change.sql:1: "c" is NOT NULL without a default: what shall the old code find in rows that the new code writes?
              help: add beside it: `-- down: <expression over the columns that stay>`
            change.sql:2: "b" becomes text: how does a value of it become integer again, for the old code?
              help: add beside it: `-- down: "b"::integer`
            change.sql:3: "gone" is dropped (change.sql:3) and made anew in one change
              help: both are there until contract: give the new one another name, or make two changes
            change.sql:4: "moved" is called "away" from now on, and made anew
              help: both are there until contract: give the new one another name, or make two changes
            change.sql:5: `DO $$ BEGIN END …` is not modelled: what takes it back?
              help: add a line above it: `-- undo: <statement>`, or `-- undo: nothing` if it may stay; it is then run as it is, at the beginning, with a lock_timeout
        "#]],
    );
}

#[test]
fn a_column_that_moves_and_what_it_costs_to_follow_it_is_named() {
    says(
        "CREATE TABLE customers (id int PRIMARY KEY, name text, city text, zip text);
         CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers)",
        "-- up: (SELECT c.city FROM customers c WHERE c.id = orders.customer)
         ALTER TABLE orders ADD COLUMN city text;
         -- up: (SELECT max(c.zip) FROM customers c)
         ALTER TABLE orders ADD COLUMN zip text",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            warning: "orders"."zip" is looked up in "customers" and does not follow it: say by which columns, `WHERE "customers".<column> = "orders".<column>`
            warning: each write of "customers" that "orders"."city" follows reads all of "orders", as no index begins with "customer"; make one before
        "#]],
    );
}

#[test]
fn an_answer_that_stands_beside_something_else_is_refused() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, n int)",
        "ALTER TABLE t DROP COLUMN n;
         -- down: id
         CREATE INDEX ON t (id); -- undo: nothing",
        &expect![[r#"
            change.sql:2: `-- down:` says nothing of `CREATE INDEX ON t (id) …`
              help: it belongs beside DROP COLUMN, ALTER COLUMN … TYPE or DROP NOT NULL: on the same line, or on one of its own above
            change.sql:3: `-- undo:` says nothing of `CREATE INDEX ON t (id) …`
              help: it belongs beside what writes rows or is not modelled: on the same line, or on one of its own above
        "#]],
    );
}

#[test]
fn a_new_column_that_has_to_be_written_is_named() {
    says(
        "CREATE TABLE t (id int PRIMARY KEY, a int, c int NOT NULL)",
        "ALTER TABLE t ADD b int NOT NULL; -- up: a
         ALTER TABLE t ADD given int NOT NULL DEFAULT 1;
         ALTER TABLE t ADD numbered serial;
         ALTER TABLE t ADD passing int NOT NULL DEFAULT 1;
         ALTER TABLE t ALTER passing DROP DEFAULT;
         ALTER TABLE t ALTER c TYPE bigint",
        &expect![[r#"
            warning: the code that runs reads the tables themselves: its `SELECT *` sees the new columns, and what it has prepared may fail; release once without this change, and it reads by views from then on
            note: until contract a value of "t"."c" must fit the old column too (change.sql:6)
            note: new code that writes rows of "t" without "b" fails: it is NOT NULL and has no default (change.sql:1)
            note: new code that writes rows of "t" without "passing" fails: it is NOT NULL and has no default (change.sql:4)
        "#]],
    );
}
