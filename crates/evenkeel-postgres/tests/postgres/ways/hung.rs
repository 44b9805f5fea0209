//! What hangs on columns, rules and views that others take the place of.

use super::{Way, go};

#[test]
fn what_hangs_on_a_column_and_its_rules_goes_along_to_its_new_type() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, slug varchar(40) NOT NULL, n int NOT NULL, gone int,
                     note text, CONSTRAINT small CHECK (n < 1000000), CONSTRAINT one_slug UNIQUE (slug));
                 CREATE UNIQUE INDEX by_n ON t (n, id);
                 CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS
                     'BEGIN RETURN NULL; END';
                 CREATE TRIGGER slugs AFTER UPDATE OF slug ON t FOR EACH ROW EXECUTE FUNCTION nothing();
                 ALTER TABLE t ENABLE ALWAYS TRIGGER slugs;
                 CREATE STATISTICS together (ndistinct) ON slug, n FROM t;
                 CREATE STATISTICS going (ndistinct) ON slug, gone FROM t;
                 COMMENT ON STATISTICS together IS 'both; together';
                 COMMENT ON COLUMN t.slug IS 'what''s in the address';
                 COMMENT ON COLUMN t.n IS 'a number'; COMMENT ON COLUMN t.note IS 'a note';
                 COMMENT ON CONSTRAINT one_slug ON t IS 'no two'; COMMENT ON INDEX one_slug IS 'an index';
                 COMMENT ON CONSTRAINT small ON t IS 'small'; COMMENT ON INDEX by_n IS 'by n';
                 COMMENT ON CONSTRAINT t_pkey ON t IS 'a key'; COMMENT ON TRIGGER slugs ON t IS 'slugs';
                 ALTER TABLE t ALTER slug SET STATISTICS 500, ALTER n SET (n_distinct = -0.5),
                     ALTER note SET STORAGE EXTERNAL, ALTER note SET COMPRESSION pglz,
                     CLUSTER ON by_n, REPLICA IDENTITY USING INDEX by_n;
                 REVOKE INSERT, UPDATE ON t FROM app;
                 GRANT SELECT (slug), INSERT (id, slug, n), UPDATE (slug, n) ON t TO app;
                 GRANT SELECT (id, slug) ON t TO PUBLIC;
                 GRANT UPDATE (slug) ON t TO pg_monitor WITH GRANT OPTION;
                 INSERT INTO t SELECT n, 's' || n, n, n, 'note' FROM generate_series(1, 30) n",
        migration: "ALTER TABLE t ALTER slug TYPE text, ALTER n TYPE bigint, DROP COLUMN gone;
                    ALTER TABLE t ALTER note SET NOT NULL; -- up: coalesce(note, '')
                    ALTER TABLE t ALTER id TYPE bigint",
        plain: Some("DROP TRIGGER slugs ON t;
                     ALTER TABLE t ALTER slug TYPE text, ALTER n TYPE bigint, DROP COLUMN gone,
                         ALTER note SET NOT NULL, ALTER id TYPE bigint;
                     CREATE TRIGGER slugs AFTER UPDATE OF slug ON t FOR EACH ROW EXECUTE FUNCTION nothing();
                     ALTER TABLE t ENABLE ALWAYS TRIGGER slugs; COMMENT ON TRIGGER slugs ON t IS 'slugs'"),
        old: &["SELECT id, slug, n FROM t", "UPDATE t SET slug = slug || '!' WHERE id = 3"],
        new: &["SELECT id, slug, n FROM t", "UPDATE t SET slug = slug || '?' WHERE id = 4"],
        same: &[("SELECT id, slug, n FROM t ORDER BY id", "SELECT id, slug, n FROM t ORDER BY id")],
        ..Way::default()
    });
}

#[test]
fn what_hangs_on_columns_and_tables_that_are_renamed_too_goes_along() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, a int, b int);
                 CREATE INDEX by_a ON t (a); CREATE STATISTICS together (mcv) ON a, b FROM t;
                 COMMENT ON INDEX by_a IS 'by a'; COMMENT ON COLUMN t.a IS 'an a';
                 COMMENT ON COLUMN t.b IS 'a b'; ALTER TABLE t CLUSTER ON by_a;
                 REVOKE UPDATE ON t FROM app; GRANT UPDATE (a) ON t TO app",
        migration: "ALTER TABLE t ALTER a TYPE bigint; ALTER TABLE t RENAME a TO b2;
                    ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME TO \"T u\";
                    ALTER INDEX by_a RENAME TO \"by B\";
                    COMMENT ON COLUMN \"T u\".a IS 'another'",
        old: &["SELECT a, b FROM t", "UPDATE t SET a = 1"],
        new: &["UPDATE \"T u\" SET b2 = 2", "SELECT a, b2 FROM \"T u\""],
        ..Way::default()
    });
}

#[test]
fn what_hangs_on_a_view_that_is_made_anew_goes_along() {
    go(&Way {
        before: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
                 CREATE VIEW v AS SELECT id, n FROM t; ALTER VIEW v ALTER n SET DEFAULT 7;
                 COMMENT ON VIEW v IS 'it''s a view'; COMMENT ON COLUMN v.n IS 'a number';
                 REVOKE ALL ON v FROM app;
                 GRANT SELECT (id), INSERT (id), SELECT (n) ON v TO app",
        migration: "ALTER TABLE t ALTER n TYPE bigint",
        plain: Some(
            "DROP VIEW v; ALTER TABLE t ALTER n TYPE bigint; CREATE VIEW v AS SELECT id, n FROM t;
                     ALTER VIEW v ALTER n SET DEFAULT 7;
                     COMMENT ON VIEW v IS 'it''s a view'; COMMENT ON COLUMN v.n IS 'a number';
                     REVOKE ALL ON v FROM app;
                     GRANT SELECT (id), INSERT (id), SELECT (n) ON v TO app",
        ),
        old: &["SELECT id, n FROM v", "INSERT INTO v (id) SELECT 1 + max(id) FROM v"],
        new: &["SELECT id, n FROM v", "INSERT INTO v (id) SELECT 1 + max(id) FROM v"],
        same: &[
            ("SELECT * FROM v ORDER BY 1", "SELECT * FROM v ORDER BY 1"),
            ("SELECT 0", "SELECT count(*) FROM v WHERE id > 1 AND n <> 7"),
        ],
        ..Way::default()
    });
}
