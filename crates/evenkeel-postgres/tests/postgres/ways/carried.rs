//! Views, functions, triggers, rights and policies of the user's.

use super::{Way, go};

const ORDERS: &str = "
    CREATE TABLE orders (id serial PRIMARY KEY, cents int NOT NULL, note text, gone text DEFAULT 'g');
    CREATE VIEW dear AS SELECT id, cents, note FROM orders WHERE cents > 100;
    CREATE VIEW sums AS SELECT d.note, sum(d.cents) AS cents, (SELECT count(*) FROM orders) AS n
        FROM dear d GROUP BY d.note;
    INSERT INTO orders (cents, note) SELECT n, 'n' || n % 7 FROM generate_series(1, 500) n;";

#[test]
fn views_follow_a_column_to_its_new_type() {
    go(&Way {
        before: ORDERS,
        migration: "ALTER TABLE orders ALTER cents TYPE bigint",
        plain: Some(
            "DROP VIEW sums, dear; ALTER TABLE orders ALTER cents TYPE bigint;
             CREATE VIEW dear AS SELECT id, cents, note FROM orders WHERE cents > 100;
             CREATE VIEW sums AS SELECT d.note, sum(d.cents) AS cents, (SELECT count(*) FROM orders) AS n
                 FROM dear d GROUP BY d.note",
        ),
        old: &["INSERT INTO dear (cents, note) VALUES (1000, 'a')", "UPDATE dear SET cents = cents + 1 WHERE id = 200"],
        new: &["INSERT INTO dear (cents, note) VALUES (1000, 'b')", "UPDATE dear SET cents = cents + 1 WHERE id = 300"],
        same: &[("SELECT * FROM sums ORDER BY 1", "SELECT * FROM sums ORDER BY 1"),
                ("SELECT * FROM dear ORDER BY 1", "SELECT * FROM dear ORDER BY 1")],
        ..Way::default()
    });
}

#[test]
fn views_follow_a_column_to_its_new_type_and_name() {
    go(&Way {
        before: ORDERS,
        migration: "ALTER TABLE orders ALTER cents TYPE bigint; ALTER TABLE orders RENAME cents TO amount;
                    ALTER TABLE orders RENAME note TO remark; ALTER TABLE orders RENAME TO purchases;
                    ALTER TABLE purchases DROP COLUMN gone",
        plain: Some(
            "DROP VIEW sums, dear; ALTER TABLE orders ALTER cents TYPE bigint;
             CREATE VIEW dear AS SELECT id, cents, note FROM orders WHERE cents > 100;
             CREATE VIEW sums AS SELECT d.note, sum(d.cents) AS cents, (SELECT count(*) FROM orders) AS n
                 FROM dear d GROUP BY d.note;
             ALTER TABLE orders RENAME cents TO amount;
             ALTER TABLE orders RENAME note TO remark; ALTER TABLE orders RENAME TO purchases;
             ALTER TABLE purchases DROP COLUMN gone",
        ),
        old: &["INSERT INTO orders (cents, note) VALUES (1000, 'a')"],
        new: &["INSERT INTO purchases (amount, remark) VALUES (1000, 'b')"],
        same: &[("SELECT * FROM sums ORDER BY 1", "SELECT * FROM sums ORDER BY 1"),
                ("SELECT * FROM dear ORDER BY 1", "SELECT * FROM dear ORDER BY 1")],
        ..Way::default()
    });
}

#[test]
fn a_view_is_made_anew_by_the_migration() {
    go(&Way {
        before: ORDERS,
        migration: "DROP VIEW sums; DROP VIEW dear;
                    ALTER TABLE orders DROP COLUMN note;
                    CREATE VIEW dear AS SELECT id, cents FROM orders WHERE cents > 200",
        old: &["SELECT note FROM sums", "INSERT INTO dear (cents) VALUES (500)"],
        new: &["INSERT INTO dear (cents) VALUES (500)", "SELECT * FROM dear"],
        ..Way::default()
    });
}

#[test]
fn triggers_and_functions_go_along() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, n int, s text, changed timestamptz, log text);
                 CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN NEW.changed = now(); NEW.s = lower(NEW.s); RETURN NEW; END $$;
                 CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
                 CREATE TRIGGER narrow AFTER UPDATE OF n ON t FOR EACH ROW
                     WHEN (OLD.n IS DISTINCT FROM NEW.n) EXECUTE FUNCTION touch();
                 INSERT INTO t (n, s) SELECT n, 'S' FROM generate_series(1, 20) n",
        migration: "ALTER TABLE t ALTER n TYPE bigint;
                    ALTER TABLE t ADD length int -- up: length(s)
                    ;
                    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN NEW.log = 'noted'; RETURN NEW; END $$;
                    CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE note();
                    CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN NEW.changed = clock_timestamp(); NEW.s = lower(NEW.s); RETURN NEW; END $$",
        plain: Some("DROP TRIGGER narrow ON t; ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ADD length int;
                    CREATE TRIGGER narrow AFTER UPDATE OF n ON t FOR EACH ROW
                     WHEN (OLD.n IS DISTINCT FROM NEW.n) EXECUTE FUNCTION touch();
                    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN NEW.log = 'noted'; RETURN NEW; END $$;
                    CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE note();
                    CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN NEW.changed = clock_timestamp(); NEW.s = lower(NEW.s); RETURN NEW; END $$"),
        old: &["INSERT INTO t (n, s) VALUES (5, 'ABC')", "UPDATE t SET n = n + 1 WHERE id = 3"],
        new: &["INSERT INTO t (n, s) VALUES (5, 'ABC')", "UPDATE t SET n = n + 1 WHERE id = 4"],
        same: &[("SELECT id, n, s FROM t ORDER BY id", "SELECT id, n, s FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn rights_and_policies_are_given() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, owner text DEFAULT 'app', n int);
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY mine ON t USING (owner = current_user);
                 INSERT INTO t (owner, n) VALUES ('app', 1), ('other', 2)",
        migration: "ALTER TABLE t ALTER n TYPE bigint;
                    CREATE TABLE u (id int PRIMARY KEY);
                    ALTER TABLE u ENABLE ROW LEVEL SECURITY;
                    CREATE POLICY all_of_u ON u USING (true);
                    REVOKE ALL ON u FROM app; GRANT SELECT, INSERT ON u TO app;
                    CREATE POLICY yours ON t FOR SELECT USING (owner = 'nobody');
                    COMMENT ON TABLE t IS 'a table'; ALTER TABLE t SET (fillfactor = 90)",
        old: &["INSERT INTO t (n) VALUES (3)"],
        new: &["INSERT INTO t (n) VALUES (4)", "INSERT INTO u SELECT 1 + count(*) FROM u"],
        same: &[
            ("SELECT id, n FROM t ORDER BY id", "SELECT id, n FROM t ORDER BY id"),
            ("SELECT 0", "SELECT count(*) FROM t WHERE owner = 'other'"),
        ],
        since: 15,
        ..Way::default()
    });
}

#[test]
fn a_function_goes_before_the_table_whose_rows_it_takes_and_a_trigger_before_its_table_is_renamed()
{
    go(&Way {
        before: "CREATE TABLE old (id int PRIMARY KEY, n int);
                 CREATE FUNCTION n_of(it old) RETURNS int LANGUAGE sql AS 'SELECT it.n';
                 CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                 CREATE TABLE t (id int PRIMARY KEY, n int);
                 CREATE TRIGGER nothing BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
        migration: "DROP FUNCTION n_of(old); DROP TABLE old;
                    ALTER TABLE t RENAME TO things; DROP TRIGGER nothing ON things;
                    DROP FUNCTION nothing()",
        old: &["DELETE FROM t", "INSERT INTO t VALUES (1, 1)", "INSERT INTO old VALUES (1, 1) ON CONFLICT DO NOTHING"],
        new: &["UPDATE things SET n = n + 1"],
        ..Way::default()
    });
}
