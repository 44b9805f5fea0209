//! A desired schema beside what is there: what is told apart, and what it comes to.

use std::process::Command;

use evenkeel_postgres::desired;
use evenkeel_postgres::execute::Failed;
use evenkeel_postgres::plan;
use evenkeel_postgres::sql::{Squawk, Statement};
use evenkeel_postgres::wanted::Wanted;

use crate::catalog::{differences, dump};
use crate::rig::{Database, histories, lines, migrations, programs, skipped, told};

fn statements(database: &Database, file: &str) -> Result<Vec<Statement>, String> {
    let now = database.shape();
    desired::statements(&mut database.connect(), &now, "schema.sql", file, &Squawk)
        .map_err(|error| told(&error))
}

/// What the file comes to, a line for each statement.
fn changes(database: &Database, file: &str) -> Vec<String> {
    let all = statements(database, file).unwrap_or_else(|why| panic!("{why}\n{file}"));
    all.iter().map(|it| it.sql.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Carries out what the file comes to, as a release does.
fn release(database: &Database, file: &str) {
    let ok = |done: Result<(), Failed>| done.unwrap_or_else(|error| panic!("{}", told(&error)));
    let all = statements(database, file).unwrap_or_else(|why| panic!("{why}"));
    let now = database.shape();
    let mut executor = database.executor();
    let ledger = executor.ledger().expect("a ledger");
    let said = |problems: Vec<evenkeel_postgres::problem::Problem>| -> plan::Plan {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let plan = Wanted::after(&now, &all, &Squawk)
        .and_then(|wanted| plan::derive(&now, &wanted, ledger.next(), ledger.views().cloned()))
        .unwrap_or_else(said);
    ok(executor.expand(&plan));
    ok(executor.fill(&plan, &mut |_| true).map(drop));
    ok(executor.tighten(&plan));
    ok(executor.contract(&plan));
}

/// One change: what there is, the file, and the statements that it comes to.
struct Change {
    before: &'static str,
    file: &'static str,
    changes: &'static [&'static str],
}

const CHANGES: &[Change] = &[
    Change {
        before: "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, full_name text NOT NULL,
                     amount int NOT NULL DEFAULT 0 CHECK (amount >= 0), note text, at timestamptz);
                 CREATE INDEX orders_note ON orders (note);
                 INSERT INTO orders (full_name, amount) VALUES ('Ada Byron', 3), ('Alan Turing', 4)",
        file: "CREATE TABLE orders (
                   id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                   first_name text NOT NULL, -- up: split_part(full_name, ' ', 1)
                   last_name text NOT NULL,  -- up: split_part(full_name, ' ', 2)
                   amount bigint NOT NULL DEFAULT 1 CHECK (amount >= 0),
                   made_at timestamptz DEFAULT now() -- was: at
                   -- gone: full_name = first_name || ' ' || last_name
                   -- gone: note
               );
               CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_names ON orders (lower(last_name), first_name);",
        changes: &[
            "ALTER TABLE orders RENAME COLUMN at TO made_at",
            "DROP INDEX orders_note",
            "ALTER TABLE orders ADD COLUMN first_name text NOT NULL",
            "ALTER TABLE orders ADD COLUMN last_name text NOT NULL",
            "ALTER TABLE orders ALTER COLUMN amount TYPE bigint",
            "ALTER TABLE orders ALTER COLUMN amount SET DEFAULT 1",
            "ALTER TABLE orders ALTER COLUMN made_at SET DEFAULT now()",
            "ALTER TABLE orders DROP COLUMN full_name",
            "ALTER TABLE orders DROP COLUMN note",
            "CREATE INDEX orders_names ON orders USING btree (lower(last_name), first_name)",
        ],
    },
    Change {
        before: "CREATE TABLE users (id serial PRIMARY KEY, name varchar(20) UNIQUE);
                 CREATE TABLE posts (id serial PRIMARY KEY, author int REFERENCES users (id), old text);
                 INSERT INTO users (name) VALUES ('a')",
        file: "-- was: users
               CREATE TABLE people (id serial PRIMARY KEY, name varchar(40) NOT NULL CONSTRAINT named UNIQUE);
               CREATE TABLE posts (
                   id serial PRIMARY KEY,
                   writer int NOT NULL REFERENCES people (id) ON DELETE CASCADE -- was: author
                   -- gone: old
               );
               CREATE TABLE tags (post int REFERENCES posts, tag text, PRIMARY KEY (post, tag));
               CREATE INDEX ON tags (tag);",
        changes: &[
            "ALTER TABLE users RENAME TO people",
            "ALTER TABLE posts RENAME COLUMN author TO writer",
            "ALTER TABLE people RENAME CONSTRAINT users_name_key TO named",
            "ALTER TABLE people RENAME CONSTRAINT users_pkey TO people_pkey",
            "ALTER TABLE posts DROP CONSTRAINT posts_author_fkey",
            "ALTER TABLE people ALTER COLUMN name TYPE character varying(40)",
            "ALTER TABLE people ALTER COLUMN name SET NOT NULL",
            "ALTER TABLE posts ALTER COLUMN writer SET NOT NULL",
            "ALTER TABLE posts DROP COLUMN old",
            "CREATE TABLE tags (post int REFERENCES posts, tag text, PRIMARY KEY (post, tag))",
            "CREATE INDEX ON tags (tag)",
            "ALTER TABLE posts ADD CONSTRAINT posts_writer_fkey FOREIGN KEY (writer) REFERENCES people (id) ON DELETE CASCADE",
        ],
    },
    Change {
        before: "CREATE TYPE mood AS ENUM ('ok', 'sad');
                 CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n + n';
                 CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 1; RETURN NEW; END';
                 CREATE TABLE t (id int PRIMARY KEY, mood mood DEFAULT 'ok', n int, size int);
                 CREATE TRIGGER stamp BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stamp();
                 CREATE TRIGGER away BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stamp();
                 CREATE VIEW sad AS SELECT id FROM t WHERE mood = 'sad';
                 CREATE VIEW same AS SELECT id, n FROM t;
                 CREATE VIEW leaves AS SELECT 1 AS one;
                 CREATE TABLE going (id int)",
        file: "CREATE TYPE mood AS ENUM ('glad', 'ok', 'so so', 'sad');
               CREATE TYPE pair AS (a int, b int);
               CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
               CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 1; RETURN NEW; END';
               CREATE TABLE t (id int PRIMARY KEY, mood mood DEFAULT 'ok', n int DEFAULT twice(2), size int, CHECK (n > size));
               CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
               CREATE TRIGGER added AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION stamp();
               CREATE VIEW sad AS SELECT id, n FROM t WHERE mood IN ('sad', 'ok');
               CREATE OR REPLACE VIEW same AS SELECT id, n FROM public.t;
               ALTER TABLE t ENABLE ROW LEVEL SECURITY;
               CREATE POLICY mine ON t USING (n > 0);
               COMMENT ON TABLE t IS 'of things';
               -- gone: going",
        changes: &[
            "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'glad' BEFORE 'ok'",
            "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'so so' AFTER 'ok'",
            "CREATE TYPE pair AS (a int, b int)",
            "CREATE OR REPLACE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS $function$SELECT n * 2$function$",
            "ALTER TABLE t ALTER COLUMN n SET DEFAULT twice(2)",
            "CREATE OR REPLACE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()",
            "CREATE TRIGGER added AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION stamp()",
            "DROP VIEW sad",
            "CREATE VIEW sad AS SELECT id, n FROM t WHERE mood IN ('sad', 'ok')",
            "CREATE POLICY mine ON t USING (n > 0)",
            "COMMENT ON TABLE t IS 'of things'",
            "DROP TABLE going",
            "ALTER TABLE t ADD CONSTRAINT t_check CHECK ((n > size))",
            "DROP VIEW leaves",
            "DROP TRIGGER away ON t",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        ],
    },
];

#[test]
fn a_file_comes_to_the_statements_that_lead_to_it_and_then_to_none() {
    for change in CHANGES {
        for database in Database::each() {
            drop(database.with(change.before));
            assert_eq!(changes(&database, change.file), change.changes);
            release(&database, change.file);
            let plain = database.another();
            drop(plain.with(&change.file.replace("CONCURRENTLY ", "")));
            let there = dump(&mut database.connect());
            let different = differences(&there, &dump(&mut plain.connect()));
            // A sequence keeps its name with its table.
            let different: Vec<&str> = different
                .lines()
                .filter(|it| !it.contains("users_id_seq") && !it.contains("people_id_seq"))
                .collect();
            assert_eq!(different, Vec::<&str>::new());
            assert_eq!(changes(&database, change.file), Vec::<String>::new());
        }
    }
}

/// The SQL that makes all that is in a database, as a dump has it.
fn dumped(database: &Database) -> Option<String> {
    let program = programs().first()?.join("pg_dump");
    let (socket, name) = database.address();
    let out = Command::new(program)
        .args(["--schema-only", "--no-owner", "--username=owner", "--host"])
        .arg(socket)
        .arg(name)
        .output()
        .ok()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).expect("a text"))
}

/// What a dump comes to when it is run plainly: the server prints some of it otherwise once it has read
/// that.
fn plainly(database: &Database, file: &str) -> String {
    let sql: String = file.split_inclusive('\n').filter(|it| !it.starts_with('\\')).collect();
    drop(database.with(&sql));
    dump(&mut database.connect())
}

/// The dump of a published application's schema is a desired schema: of the database that it was taken
/// from, which lacks nothing then, and of an empty one, which comes to the same.
#[test]
fn a_dump_of_a_published_schema_is_a_desired_one() {
    for folder in histories() {
        let (Some(there), Some(empty)) = (Database::new(), Database::new()) else { return };
        let mut client = there.connect();
        for file in migrations(&folder) {
            // One that PostgreSQL refuses says nothing.
            if client.batch_execute(&std::fs::read_to_string(&file).expect("a file")).is_err() {
                drop(client.batch_execute("ROLLBACK"));
            }
        }
        let Some(file) = dumped(&there) else { return skipped("pg_dump is not installed") };
        assert_eq!(changes(&there, &file), Vec::<String>::new(), "{}", folder.display());
        release(&empty, &file);
        let plain = plainly(&empty.another(), &file);
        let different = differences(&dump(&mut empty.connect()), &plain);
        assert_eq!(different, "", "{}", folder.display());
        assert_eq!(changes(&empty, &file), Vec::<String>::new(), "{}", folder.display());
    }
}

/// What is wrong with a file, as people read it.
fn wrong(database: &Database, file: &str) -> String {
    match statements(database, file) {
        Ok(all) => {
            panic!("nothing is wrong: {:?}", all.iter().map(|it| &it.sql).collect::<Vec<_>>())
        }
        Err(why) => why,
    }
}

#[test]
fn what_two_shapes_cannot_tell_is_asked_for_with_the_line_to_add() {
    let Some(database) = Database::new() else { return };
    drop(database.with(
        "CREATE TYPE mood AS ENUM ('ok', 'sad');
         CREATE TABLE customers (id int PRIMARY KEY, full_name text NOT NULL, note text, mood mood);
         CREATE TABLE sessions (id int);
         CREATE TABLE jobs (id int);",
    ));
    let asked = wrong(
        &database,
        "CREATE TYPE mood AS ENUM ('ok');
CREATE TABLE customers (
  id int PRIMARY KEY,
  first_name text NOT NULL,
  mood mood
  -- gone: full_name
);
-- kept: sessions
",
    );
    assert_eq!(
        asked,
        "schema.sql:1: the database has a table \"jobs\", and the file does not
  help: add a line: `-- gone: jobs` if it goes, `-- kept: jobs` if somebody else looks after it; \
         if it is called otherwise now, `-- was: jobs` above that table
schema.sql:1: \"mood\" has the value 'sad' in the database, and not here
  help: a value of an enum cannot be taken away: make another type, and give the column that
schema.sql:2: \"full_name\" goes, and is NOT NULL without a default: what shall the old code \
         find in rows that the new code writes?
  help: say it: `-- gone: full_name = <expression over the columns that stay>`
schema.sql:2: \"customers\" has a column \"note\" in the database, and not here
  help: if it goes, add a line to the table: `-- gone: note`; if it is called otherwise now, add \
         beside that column: `-- was: note`"
    );
    // What the migration that is written lacks points into the file too.
    let asked = wrong_plan(
        &database,
        "CREATE TYPE mood AS ENUM ('ok', 'sad');
CREATE TABLE customers (
  id int PRIMARY KEY,
  full_name text NOT NULL,
  note int,
  mood mood,
  size int NOT NULL
);
-- kept: sessions, jobs",
    );
    assert!(asked.contains("schema.sql:7: ") && asked.contains("`-- up: "), "{asked}");
}

/// What is wrong with the migration that a file comes to.
fn wrong_plan(database: &Database, file: &str) -> String {
    let all = statements(database, file).unwrap_or_else(|why| panic!("{why}"));
    let now = database.shape();
    let plan =
        Wanted::after(&now, &all, &Squawk).and_then(|wanted| plan::derive(&now, &wanted, 1, None));
    let problems = plan.err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn statements_that_have_no_place_in_a_desired_schema_are_named_all_at_once() {
    let Some(database) = Database::new() else { return };
    let asked = wrong(
        &database,
        "CREATE TABLE t (id int REFERENCES elsewhere (id));
INSERT INTO t VALUES (1);
DROP TABLE u;
CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int);
CREATE TABLE v (id int);",
    );
    let lines: Vec<&str> = asked.lines().filter(|it| !it.starts_with("  help")).collect();
    assert_eq!(
        lines,
        [
            "schema.sql:1: \"t_id_fkey\" points to \"elsewhere\", which the file does not have",
            "schema.sql:2: `insert into t …` is about rows, and a desired schema says what holds them",
            "schema.sql:3: `drop table u …` has no place in a desired schema, which says what is there",
            "schema.sql:4: `create aggregate total …` is not compared with what is there",
        ]
    );
    let refused = wrong(&database, "CREATE TABLE t (id int);\nCREATE TABLE u (id nothing);");
    assert_eq!(refused, "schema.sql:2: PostgreSQL refuses this: type \"nothing\" does not exist");
}

/// Looking changes nothing, waits for nobody and lets nobody wait.
#[test]
fn to_compare_locks_no_table_and_leaves_nothing() {
    let Some(database) = Database::new() else { return };
    let mut other = database.with(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE VIEW v AS SELECT n FROM t;
         CREATE TABLE s (id int PRIMARY KEY);
         INSERT INTO t VALUES (1, 1);",
    );
    let before = dump(&mut other);
    // Somebody writes, and is not done: whoever wanted the table would wait.
    other
        .batch_execute("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE; UPDATE t SET n = 2")
        .expect("rows");
    let file = "CREATE TABLE t (id int PRIMARY KEY, n bigint CHECK (n > 0), s int REFERENCES s);
                CREATE VIEW v AS SELECT n FROM t;
                -- kept: s";
    let all = changes(&database, file);
    assert_eq!(all.len(), 4, "{all:?}");
    other.batch_execute("COMMIT").expect("done");
    assert_eq!(dump(&mut other), before);
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'evenkeel%'";
    assert_eq!(lines(&mut other, left), "0");
}

/// Adds to a file what is asked for, as somebody would who knows that there are no rows; nothing if
/// something else is wrong.
fn answered(file: &str, asked: &str) -> Option<String> {
    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    let mut below = String::new();
    let problems: Vec<&str> = asked.split("schema.sql:").skip(1).collect();
    // From below, so that lines keep their numbers.
    for problem in problems.iter().rev() {
        let line: usize = problem.split(':').next()?.parse().ok()?;
        let gone = || problem.split("`-- gone: ").nth(1)?.split(['`', ' ']).next();
        if problem.contains("the database has a table") {
            below = format!("-- gone: {}\n{below}", gone()?);
        } else if problem.contains("and not here") {
            lines.insert(line, format!("    -- gone: {}", gone()?));
        } else if problem.contains("is NOT NULL without a default") {
            let old = format!("-- gone: {}", gone()?);
            let at = lines.iter().position(|it| it.trim() == old)?;
            lines[at].push_str(" = NULL");
        } else if problem.contains("is NOT NULL: what shall rows have") {
            lines[line - 1].push_str(" -- up: NULL");
        } else if problem.contains("add beside it: `-- down: ") {
            lines[line - 1].push_str(" -- down: NULL");
        } else if let Some(was) = problem.split("is called as an index of \"").nth(1) {
            let was = format!("-- was: {}", was.split('"').next()?);
            // One table may have several.
            if lines[line - 1] != was {
                lines.insert(line - 1, was);
            }
        } else if let Some(was) = problem.split(" already, of \"").nth(1) {
            let table = lines[line - 1].split(" ON ").nth(1)?.split(' ').next()?;
            let at = lines.iter().position(|it| *it == format!("CREATE TABLE {table} ("))?;
            let was = format!("-- was: {}", was.split('"').next()?);
            // Lines below have other numbers then: the rest is asked for again.
            lines.insert(at, was);
            break;
        } else {
            return None;
        }
    }
    Some(lines.join("\n") + "\n" + &below)
}

/// A database at an earlier point of its application's history comes to the last one by a dump of that.
#[test]
fn a_database_comes_to_a_later_schema_of_its_application() {
    for folder in histories() {
        let files = migrations(&folder);
        let sql: Vec<String> =
            files.iter().map(|it| std::fs::read_to_string(it).expect("a file")).collect();
        let at = |count: usize| {
            let database = Database::new()?;
            let mut client = database.connect();
            for sql in &sql[..count] {
                // One that PostgreSQL refuses says nothing.
                if client.batch_execute(sql).is_err() {
                    drop(client.batch_execute("ROLLBACK"));
                }
            }
            Some(database)
        };
        let Some(last) = at(sql.len()) else { return };
        let Some(dumped) = dumped(&last) else { return skipped("pg_dump is not installed") };
        let wanted = plainly(&last.another(), &dumped);
        for part in [1, 2] {
            let count = sql.len() * part / 4;
            let Some(database) = at(count) else { return };
            let empty = "DO $$ DECLARE it record; BEGIN
                FOR it IN SELECT oid::regclass AS name FROM pg_class
                          WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                LOOP EXECUTE 'TRUNCATE ' || it.name || ' CASCADE'; END LOOP; END $$";
            drop(database.with(empty));
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut file = dumped.clone();
            for _ in 0..10 {
                let asked = match statements(&database, &file) {
                    Err(asked) => asked,
                    Ok(_) => wrong_plan(&database, &file),
                };
                if asked.is_empty() {
                    break;
                }
                file = answered(&file, &asked)
                    .unwrap_or_else(|| panic!("{name}, {count}: {asked:.2000}"));
            }
            release(&database, &file);
            let different = differences(&dump(&mut database.connect()), &wanted);
            // What is said of how a column is stored is not compared.
            let mut different = different.lines().filter(|it| !it[2..].starts_with("kept "));
            assert_eq!(different.next(), None, "{name}, {count} of {}", sql.len());
        }
    }
}

const KEPT: &str =
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, s varchar(9));
    CREATE VIEW v AS SELECT id FROM t;
    CREATE VIEW w AS SELECT n FROM t;
    CREATE MATERIALIZED VIEW m AS SELECT n FROM t;
    CREATE UNIQUE INDEX m_n ON m (n);
    CREATE SEQUENCE numbers;
    CREATE DOMAIN small AS int CHECK (VALUE < 10);
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER off BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TRIGGER on_ BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing();
    ALTER TABLE t DISABLE TRIGGER off;
    GRANT SELECT ON t, v, w TO reader; GRANT USAGE ON SEQUENCE numbers TO reader;
    GRANT EXECUTE ON FUNCTION nothing() TO reader;
    COMMENT ON TABLE t IS 'of things'; COMMENT ON COLUMN t.n IS 'how many';";

/// What hangs on things is kept, also on those that are made anew.
#[test]
fn rights_indexes_and_rows_of_views_that_are_made_anew_are_kept() {
    let Some(database) = Database::new() else { return };
    let reader = "DO $$ BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN NULL;
                  WHEN unique_violation THEN NULL; END $$;";
    drop(database.with(&format!("{reader}{KEPT} INSERT INTO t (n, s) VALUES (1, 'a'), (2, 'b')")));
    assert_eq!(changes(&database, KEPT), Vec::<String>::new());
    let file = KEPT
        .replace("AS SELECT id FROM t;", "AS SELECT id, s FROM t;")
        .replace(
            "AS SELECT n FROM t;\n    CREATE UNIQUE",
            "AS SELECT n, s FROM t WITH NO DATA;\n    CREATE UNIQUE",
        )
        .replace("GENERATED ALWAYS", "GENERATED BY DEFAULT")
        .replace("DISABLE TRIGGER off", "DISABLE TRIGGER on_")
        .replace("how many", "so many");
    assert_eq!(
        changes(&database, &file),
        [
            "ALTER TABLE t ALTER COLUMN id SET GENERATED BY DEFAULT",
            "DROP VIEW v",
            "CREATE VIEW v AS SELECT id, s FROM t",
            "DROP MATERIALIZED VIEW m",
            "CREATE MATERIALIZED VIEW m AS SELECT n, s FROM t",
            "CREATE UNIQUE INDEX m_n ON m (n)",
            "GRANT SELECT ON t, v, w TO reader",
            "COMMENT ON COLUMN t.n IS 'so many'",
            "ALTER TABLE t DISABLE TRIGGER on_",
            "ALTER TABLE t ENABLE TRIGGER off",
        ]
    );
    release(&database, &file);
    assert_eq!(changes(&database, &file), Vec::<String>::new());
    let mut client = database.with("SET ROLE reader");
    assert_eq!(lines(&mut client, "SELECT count(s) FROM v"), "2");
    let mut client = database.connect();
    assert_eq!(lines(&mut client, "SELECT count(s) FROM m"), "2");
    let plain = plainly(&database.another(), &file.replace("WITH NO DATA", ""));
    assert_eq!(differences(&dump(&mut client), &plain), "");
    // A domain that holds something else is another type.
    let asked = wrong(&database, &file.replace("VALUE < 10", "VALUE < 11"));
    assert!(asked.contains("the type \"small\" is another one"), "{asked}");
}

#[test]
fn what_only_psql_understands_is_named_and_not_left_out() {
    let Some(database) = Database::new() else { return };
    let asked = wrong(
        &database,
        "\\restrict x\nCREATE TABLE t (id int);\n\\i indexes.sql\n\\unrestrict x\n",
    );
    assert_eq!(
        asked,
        "schema.sql:3: `\\i` is a command of psql's, and is not followed\n  help: write out what it brings"
    );
    let asked =
        wrong(&database, "CREATE TABLE t (id int);\nCOPY public.t (id) FROM stdin;\n1\n\\.\n");
    assert!(asked.starts_with("schema.sql:2: rows of COPY have no place"), "{asked}");
}
