//! Rules and indexes.

use super::{Way, go};

#[test]
fn rules_and_indexes_of_a_column_follow_it_to_its_new_type() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, code int UNIQUE, a int, b text, c int,
                     CONSTRAINT later UNIQUE (a, code) DEFERRABLE INITIALLY DEFERRED,
                     UNIQUE (a) INCLUDE (code), CHECK (code > 0 OR a IS NULL));
                 CREATE INDEX partial ON t (code DESC NULLS LAST) WHERE code > 5 AND b <> 'code';
                 CREATE INDEX expressive ON t ((code + a), lower(b)) INCLUDE (code);
                 CREATE UNIQUE INDEX clever ON t USING btree (coalesce(code, 0), id);
                 INSERT INTO t SELECT n, n, n, n, n FROM generate_series(1, 30) n",
        migration: "ALTER TABLE t ALTER code TYPE bigint",
        old: &[
            "INSERT INTO t SELECT 1 + max(id), 1 + max(code), 1 + max(a) FROM t",
            "UPDATE t SET code = code + 100 WHERE id = 7",
        ],
        new: &[
            "INSERT INTO t SELECT 1 + max(id), 1 + max(code), 1 + max(a) FROM t",
            "UPDATE t SET code = code + 100 WHERE id = 8",
        ],
        same: &[("SELECT id, code FROM t ORDER BY id", "SELECT id, code FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn nulls_that_are_not_distinct_follow_a_column_to_its_new_type() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, code int, UNIQUE NULLS NOT DISTINCT (code));
                 CREATE UNIQUE INDEX other ON t (code, id) NULLS NOT DISTINCT",
        migration: "ALTER TABLE t ALTER code TYPE bigint",
        old: &["INSERT INTO t SELECT 1 + coalesce(max(id), 0), 1 + coalesce(max(code), 0) FROM t"],
        new: &["INSERT INTO t SELECT 1 + coalesce(max(id), 0), 1 + coalesce(max(code), 0) FROM t"],
        since: 15,
        ..Way::default()
    });
}

#[test]
fn a_foreign_key_is_added() {
    go(&Way {
        before: "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2);
                 CREATE TABLE child (id serial PRIMARY KEY, parent int);
                 INSERT INTO child (parent) VALUES (1), (2), (NULL)",
        migration:
            "ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES parent ON DELETE SET NULL;
                    ALTER TABLE child ADD other int REFERENCES parent (id) DEFERRABLE",
        old: &["INSERT INTO child (parent) VALUES (1)"],
        new: &["INSERT INTO child (parent, other) VALUES (1, 2)"],
        ..Way::default()
    });
}

#[test]
fn a_check_is_changed_under_its_name() {
    go(&Way {
        before: "CREATE TABLE t (id serial PRIMARY KEY, n int CONSTRAINT n_is_small CHECK (n < 10), s text);
                 ALTER TABLE t ADD CONSTRAINT s_is_one UNIQUE (s)",
        migration: "ALTER TABLE t DROP CONSTRAINT n_is_small;
                    ALTER TABLE t ADD CONSTRAINT n_is_small CHECK (n < 100);
                    ALTER TABLE t DROP CONSTRAINT s_is_one, ADD CONSTRAINT s_is_one UNIQUE (s, n)",
        old: &["INSERT INTO t (n) VALUES (9)"],
        new: &["INSERT INTO t (n) VALUES (8)"],
        ..Way::default()
    });
}
