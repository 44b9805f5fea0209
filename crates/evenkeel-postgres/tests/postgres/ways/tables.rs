//! Tables, keys, and the numbers of rows.

use super::{Way, go};

const PARENT: &str = "
    CREATE TABLE parent (id serial PRIMARY KEY, name text);
    CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        parent_id int NOT NULL REFERENCES parent (id) ON DELETE CASCADE, note text);
    CREATE INDEX child_parent ON child (parent_id);
    INSERT INTO parent (name) SELECT 'p' || n FROM generate_series(1, 50) n;
    INSERT INTO child (parent_id, note) SELECT n, 'c' || n FROM generate_series(1, 50) n";

#[test]
fn a_new_table_is_changed_further_in_the_same_migration() {
    go(&Way {
        before: PARENT,
        migration:
            "CREATE TABLE item (id serial PRIMARY KEY, parent_id int REFERENCES parent, a text);
                    ALTER TABLE item ADD COLUMN b int NOT NULL DEFAULT 3;
                    ALTER TABLE item RENAME COLUMN a TO c;
                    ALTER TABLE item ALTER COLUMN c TYPE varchar(20);
                    ALTER TABLE item RENAME TO items;
                    CREATE INDEX items_c ON items (c);
                    ALTER TABLE items ADD CONSTRAINT c_is_short CHECK (length(c) < 10)",
        old: &["INSERT INTO parent (name) VALUES ('x')"],
        new: &[
            "INSERT INTO parent (name) VALUES ('y')",
            "INSERT INTO items (parent_id, c) VALUES (1, 'z')",
            "UPDATE items SET b = b + 1",
        ],
        ..Way::default()
    });
}

#[test]
fn a_table_goes_with_its_foreign_keys() {
    go(&Way {
        before: PARENT,
        migration: "ALTER TABLE child DROP CONSTRAINT child_parent_id_fkey;
                    ALTER TABLE child DROP COLUMN parent_id; -- down: 1
                    DROP TABLE parent;",
        old: &[
            "INSERT INTO parent (name) VALUES ('x')",
            "INSERT INTO child (parent_id) VALUES (2)",
        ],
        new: &["INSERT INTO child (note) VALUES ('n')"],
        ..Way::default()
    });
}

#[test]
fn two_tables_that_point_at_each_other_go() {
    go(&Way {
        before: "CREATE TABLE a (id int PRIMARY KEY, b int);
                 CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
                 ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
                 CREATE TABLE c (id int PRIMARY KEY)",
        migration: "DROP TABLE a, b CASCADE",
        old: &["INSERT INTO a SELECT count(*), NULL FROM a"],
        new: &["SELECT * FROM c"],
        ..Way::default()
    });
}

#[test]
fn a_table_that_is_pointed_at_gets_another_name() {
    go(&Way {
        before: PARENT,
        migration: "ALTER TABLE parent RENAME TO owner; ALTER TABLE child RENAME parent_id TO owner_id",
        old: &[
            "INSERT INTO parent (name) VALUES ('x')",
            "INSERT INTO child (parent_id) VALUES (1)",
        ],
        new: &["INSERT INTO owner (name) VALUES ('x')", "INSERT INTO child (owner_id) VALUES (1)"],
        same: &[("SELECT id, parent_id FROM child", "SELECT id, owner_id FROM child")],
        ..Way::default()
    });
}

#[test]
fn a_key_gets_wider_with_what_points_at_it() {
    go(&Way {
        before: PARENT,
        migration:
            "ALTER TABLE parent ALTER id TYPE bigint; ALTER TABLE child ALTER parent_id TYPE bigint;
                    ALTER TABLE child ALTER id TYPE bigint",
        old: &[
            "INSERT INTO parent (name) VALUES ('x')",
            "INSERT INTO child (parent_id) SELECT max(id) FROM parent",
            "DELETE FROM parent WHERE id = (SELECT min(id) FROM parent)",
            "UPDATE child SET parent_id = parent_id WHERE id = (SELECT max(id) FROM child)",
        ],
        new: &[
            "INSERT INTO parent (name) VALUES ('x') RETURNING id",
            "INSERT INTO child (parent_id) SELECT max(id) FROM parent",
            "DELETE FROM parent WHERE id = (SELECT min(id) FROM parent)",
        ],
        ready: &[
            "INSERT INTO parent (id, name) VALUES (20, 'u') ON CONFLICT (id) DO UPDATE SET name = 'v'",
        ],
        same: &[
            (
                "SELECT id, parent_id FROM child ORDER BY id",
                "SELECT id, parent_id FROM child ORDER BY id",
            ),
            ("SELECT id, name FROM parent ORDER BY id", "SELECT id, name FROM parent ORDER BY id"),
        ],
        ..Way::default()
    });
}

#[test]
fn a_key_alone_gets_wider() {
    go(&Way {
        before: PARENT,
        migration: "ALTER TABLE parent ALTER id TYPE bigint",
        old: &[
            "INSERT INTO parent (name) VALUES ('x')",
            "INSERT INTO child (parent_id) SELECT max(id) FROM parent",
            "DELETE FROM parent WHERE id = (SELECT min(id) FROM parent)",
        ],
        new: &[
            "INSERT INTO parent (name) VALUES ('x') RETURNING id",
            "INSERT INTO child (parent_id) SELECT max(id) FROM parent",
            "DELETE FROM parent WHERE id = (SELECT min(id) FROM parent)",
        ],
        same: &[(
            "SELECT count(*), sum(parent_id) FROM child",
            "SELECT count(*), sum(parent_id) FROM child",
        )],
        ..Way::default()
    });
}

#[test]
fn an_identity_by_default_gets_wider() {
    go(&Way {
        before: "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY 3) PRIMARY KEY, n int);
                 INSERT INTO t (n) SELECT generate_series(1, 30)",
        migration: "ALTER TABLE t ALTER id TYPE bigint",
        old: &["INSERT INTO t (n) VALUES (1)", "INSERT INTO t (id, n) SELECT -1 - count(*), 2 FROM t"],
        new: &["INSERT INTO t (n) VALUES (1)", "INSERT INTO t (id, n) SELECT -1 - count(*), 2 FROM t"],
        same: &[("SELECT id, n FROM t ORDER BY id", "SELECT id, n FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn columns_that_are_numbered_are_added() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, n int);
                 INSERT INTO t SELECT n, n FROM generate_series(1, 30) n",
        migration: "ALTER TABLE t ADD COLUMN number serial; ALTER TABLE t ADD COLUMN other bigint
                        GENERATED ALWAYS AS IDENTITY",
        old: &["INSERT INTO t (id) SELECT 1 + max(id) FROM t"],
        new: &["INSERT INTO t (id) SELECT 1 + max(id) FROM t"],
        same: &[
            ("SELECT count(*) FROM t", "SELECT count(DISTINCT number) FROM t"),
            ("SELECT count(*) FROM t", "SELECT count(DISTINCT other) FROM t"),
        ],
        ..Way::default()
    });
}
