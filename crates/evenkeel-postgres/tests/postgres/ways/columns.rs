//! Types and defaults of columns, and names.

use super::{Way, go};

#[test]
fn new_columns_have_defaults_of_every_kind() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, n int); INSERT INTO t (n) VALUES (1), (2), (3)",
        migration: "ALTER TABLE t ADD token uuid NOT NULL DEFAULT gen_random_uuid();
                    ALTER TABLE t ADD at timestamptz NOT NULL DEFAULT now();
                    ALTER TABLE t ADD seen timestamptz DEFAULT clock_timestamp();
                    ALTER TABLE t ADD tags text[] NOT NULL DEFAULT '{}';
                    ALTER TABLE t ADD state varchar(9) DEFAULT 'new' CHECK (state <> 'bad'),
                                  ADD data jsonb DEFAULT '{\"a\": 1}'::jsonb, ADD raw json, ADD b boolean",
        old: &["INSERT INTO t (n) VALUES (4)", "UPDATE t SET n = n + 1"],
        new: &["INSERT INTO t (n) VALUES (5)", "INSERT INTO t (n, seen, raw) VALUES (5, NULL, '{}')", "UPDATE t SET raw = '{}'"],
        same: &[("SELECT count(*) FROM t", "SELECT count(DISTINCT token) FROM t")],
        ..Way::default()
    });
}

/// As Django adds fields.
#[test]
fn a_default_that_goes_again_is_what_rows_get_that_know_nothing_of_it() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, n int); INSERT INTO t (n) VALUES (1), (2), (3)",
        migration: "ALTER TABLE t ADD COLUMN state varchar(9) DEFAULT 'new' NOT NULL;
                    ALTER TABLE t ALTER COLUMN state DROP DEFAULT;
                    ALTER TABLE t ADD COLUMN size int DEFAULT 5;
                    ALTER TABLE t ALTER COLUMN size DROP DEFAULT;
                    ALTER TABLE t ADD COLUMN kind text NOT NULL DEFAULT 'old';
                    ALTER TABLE t ALTER COLUMN kind SET DEFAULT 'fresh'",
        old: &["INSERT INTO t (n) VALUES (4)", "UPDATE t SET n = n + 1"],
        new: &["DO $$ BEGIN
               ASSERT (SELECT bool_and(state = 'new' AND size = 5 AND kind = 'old') FROM t);
               INSERT INTO t (n, state) VALUES (5, 'x');
               ASSERT (SELECT size IS NULL AND kind = 'fresh' FROM t WHERE state = 'x');
               DELETE FROM t WHERE state = 'x';
               BEGIN
                 INSERT INTO t (n) VALUES (6);
                 ASSERT false;
               EXCEPTION WHEN not_null_violation THEN NULL;
               END;
             END $$"],
        ..Way::default()
    });
}

#[test]
fn a_default_is_changed_and_another_dropped() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, a int DEFAULT 1, b int DEFAULT 2, c int)",
        migration: "ALTER TABLE IF EXISTS nothing ADD n int; ALTER TABLE IF EXISTS t ALTER a SET DEFAULT 10;
                    ALTER TABLE t ALTER b DROP DEFAULT;
                    ALTER TABLE t ALTER c SET DEFAULT 30",
        old: &[
            "DELETE FROM t",
            "INSERT INTO t (id) VALUES (DEFAULT)",
            "DO $$ BEGIN ASSERT (SELECT a = 1 AND b = 2 AND c IS NULL FROM t); END $$",
            "DELETE FROM t",
        ],
        new: &[
            "DELETE FROM t",
            "INSERT INTO t (id) VALUES (DEFAULT)",
            "DO $$ BEGIN ASSERT (SELECT a = 10 AND b IS NULL AND c = 30 FROM t); END $$",
            "DELETE FROM t",
        ],
        ..Way::default()
    });
}

#[test]
fn an_enum_is_made_and_used_at_once_and_another_gets_a_value() {
    go(&Way {
        before: "CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE TABLE t (id serial PRIMARY KEY, m mood, s text);
                 INSERT INTO t (m, s) VALUES ('ok', 'small'), ('bad', 'large')",
        migration: "ALTER TYPE mood ADD VALUE 'great' AFTER 'ok';
                    ALTER TABLE t ALTER m SET DEFAULT 'great';
                    CREATE TYPE size AS ENUM ('small', 'large');
                    ALTER TABLE t ADD COLUMN size size DEFAULT 'small';
                    ALTER TABLE t ALTER s TYPE size USING s::size; -- down: s::text
                   ",
        old: &["INSERT INTO t (m, s) VALUES ('ok', 'large')"],
        new: &["INSERT INTO t (s, size) VALUES ('large', 'large')", "UPDATE t SET m = 'great'"],
        plain: Some("ALTER TYPE mood ADD VALUE 'great' AFTER 'ok'; COMMIT;
                    ALTER TABLE t ALTER m SET DEFAULT 'great';
                    CREATE TYPE size AS ENUM ('small', 'large');
                    ALTER TABLE t ADD COLUMN size size DEFAULT 'small';
                    ALTER TABLE t ALTER s TYPE size USING s::size"),
        stays: "+ type mood ok,great,bad\n- type mood ok,bad\n",
        same: &[("SELECT id, m, s FROM t ORDER BY id", "SELECT id, m, s FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn types_of_every_kind_change() {
    go(&Way {
        before: "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
                 CREATE TABLE t (id serial PRIMARY KEY, j json, a int[], d text, e email, v varchar(5), n numeric(6,2));
                 INSERT INTO t (j, a, d, e, v, n) VALUES ('{\"a\":1}', '{1,2}', 'x@y', 'a@b', 'abc', 12.5), (NULL, NULL, NULL, NULL, NULL, NULL)",
        migration: "ALTER TABLE t ALTER j TYPE jsonb;
                    ALTER TABLE t ALTER a TYPE bigint[] USING a::bigint[]; -- down: a::int[]
                    ALTER TABLE t ALTER d TYPE email USING d::email; -- down: d::text
                    ALTER TABLE t ALTER e TYPE text USING e::text; -- down: e::email
                    ALTER TABLE t ALTER v TYPE varchar(50);
                    ALTER TABLE t ALTER n TYPE numeric(10,4)",
        old: &["INSERT INTO t (j, a, v, n) VALUES ('[]', '{3}', 'zz', 1)", "UPDATE t SET j = '{}', e = 'c@d' WHERE id = 1"],
        new: &["INSERT INTO t (j, a, v, n) VALUES ('[]', '{3}', 'zz', 1)", "UPDATE t SET j = '{\"b\": 2}', d = 'q@r' WHERE id = 2"],
        same: &[("SELECT id, j::jsonb, a, d, e, v, n::float FROM t ORDER BY id", "SELECT id, j, a, d, e, v, n::float FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn names_may_need_quotes_and_be_as_long_as_can_be() {
    go(&Way {
        before: "CREATE TABLE \"Order\" (\"Id\" serial PRIMARY KEY, \"user\" int, \"Größe\" int, \"a b\"\"c\" text,
                     a23456789_123456789_123456789_123456789_123456789_123456789_123 int);
                 CREATE INDEX \"Order Größe\" ON \"Order\" (\"Größe\", \"user\");
                 ALTER TABLE \"Order\" ADD CONSTRAINT \"Größe > 0\" CHECK (\"Größe\" > 0);
                 CREATE INDEX b23456789_123456789_123456789_123456789_123456789_123456789_123
                     ON \"Order\" (a23456789_123456789_123456789_123456789_123456789_123456789_123);
                 INSERT INTO \"Order\" (\"user\", \"Größe\") SELECT n, n FROM generate_series(1, 20) n",
        migration: "ALTER TABLE \"Order\" ALTER \"Größe\" TYPE bigint, ALTER \"Id\" TYPE bigint;
                    ALTER TABLE \"Order\" ALTER a23456789_123456789_123456789_123456789_123456789_123456789_123 TYPE bigint;
                    ALTER TABLE \"Order\" RENAME \"user\" TO \"select\";
                    ALTER TABLE \"Order\" ALTER \"a b\"\"c\" SET NOT NULL -- up: coalesce(\"a b\"\"c\", 'it''s')
                    ;
                    ALTER TABLE \"Order\" RENAME TO \"Table\"",
        plain: Some("ALTER TABLE \"Order\" ALTER \"Größe\" TYPE bigint, ALTER \"Id\" TYPE bigint;
                    ALTER TABLE \"Order\" ALTER a23456789_123456789_123456789_123456789_123456789_123456789_123 TYPE bigint;
                    ALTER TABLE \"Order\" RENAME \"user\" TO \"select\";
                    UPDATE \"Order\" SET \"a b\"\"c\" = '';
                    ALTER TABLE \"Order\" ALTER \"a b\"\"c\" SET NOT NULL;
                    ALTER TABLE \"Order\" RENAME TO \"Table\""),
        old: &["INSERT INTO \"Order\" (\"user\", \"Größe\") VALUES (1, 5)", "UPDATE \"Order\" SET \"Größe\" = 9 WHERE \"user\" = 3"],
        new: &["INSERT INTO \"Table\" (\"select\", \"Größe\", \"a b\"\"c\") VALUES (1, 5, 'x')", "UPDATE \"Table\" SET \"Größe\" = 9 WHERE \"select\" = 4"],
        same: &[("SELECT \"Id\", \"Größe\", \"user\" FROM \"Order\" ORDER BY 1", "SELECT \"Id\", \"Größe\", \"select\" FROM \"Table\" ORDER BY 1")],
        ..Way::default()
    });
}

#[test]
fn a_table_may_have_no_key() {
    go(&Way {
        before: "CREATE TABLE log (at timestamptz DEFAULT now(), line text, n int);
                 INSERT INTO log (line, n) SELECT 'l', n FROM generate_series(1, 50) n",
        migration: "ALTER TABLE log ALTER n TYPE bigint; ALTER TABLE log ADD size int NOT NULL -- up: length(line)
                   ",
        plain: Some("ALTER TABLE log ALTER n TYPE bigint; ALTER TABLE log ADD size int;
                     UPDATE log SET size = 1; ALTER TABLE log ALTER size SET NOT NULL"),
        old: &["INSERT INTO log (line, n) VALUES ('m', 3)", "UPDATE log SET n = n + 1 WHERE n = 7"],
        new: &["INSERT INTO log (line, n, size) VALUES ('m', 3, 4)", "UPDATE log SET n = n + 1 WHERE n = 9"],
        same: &[("SELECT n FROM log ORDER BY n", "SELECT n FROM log ORDER BY n")],
        ..Way::default()
    });
}
