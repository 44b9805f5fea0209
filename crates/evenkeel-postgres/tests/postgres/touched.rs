//! Tables whose rows triggers of the user's change when they are updated, by a role that may not leave
//! triggers out.

use evenkeel_postgres::execute::{Executor, Failed, Session};
use evenkeel_postgres::plan::Plan;

use crate::catalog::dump;
use crate::rig::{Database, lines, public, told};

fn ok(done: Result<(), Failed>) {
    done.unwrap_or_else(|error| panic!("{}", told(&error)));
}

/// An executor of a role that is no superuser, which is also whose the ledger is.
fn executor(database: &Database) -> Executor {
    let session = Session::new(database.handed_over());
    Executor::new(session, &public()).unwrap_or_else(|error| panic!("{}", told(&error)))
}

/// The plan for a migration, with nobody at work meanwhile.
fn plan(database: &Database, migration: &str) -> Plan {
    drop(executor(database));
    database.plan(migration)
}

fn fill(executor: &mut Executor, plan: &Plan) {
    ok(executor.fill(plan, &mut |_| true).map(drop));
}

const TOUCHED: &str = "
    CREATE TABLE posts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, likes int,
        doubled int GENERATED ALWAYS AS (id * 2) STORED, updated_at timestamptz NOT NULL);
    INSERT INTO posts (title, likes, updated_at)
        SELECT 't' || n, n, '2020-01-01' FROM generate_series(1, 50) n;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.updated_at = now(); NEW.title = upper(NEW.title); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION touch();";

const UNTOUCHED: &str =
    "SELECT count(*) FROM posts WHERE updated_at = '2020-01-01' AND title ~ '^t'";

#[test]
fn what_a_trigger_touches_is_not_touched_by_filling() {
    for database in Database::each() {
        let mut owner = database.handed_over();
        owner.batch_execute(TOUCHED).expect("a table");
        let before = dump(&mut owner);
        // The markers of `score` and the trigger of the same migration are to be held apart too.
        let migration = "
            ALTER TABLE posts ALTER likes TYPE bigint;
            ALTER TABLE posts ADD score int; -- up: nullif(likes, 7) * 2
            CREATE TRIGGER touch_again BEFORE UPDATE ON posts
                FOR EACH ROW EXECUTE FUNCTION touch()";
        let release = |executor: &mut Executor, plan: &Plan, owner: &mut postgres::Client| {
            ok(executor.expand(plan));
            let mut new = database.with(&format!("SET search_path = {}, public", plan.views));
            // Rows that code writes are touched as ever, and kept in step: the new code knows of
            // both columns.
            lines(owner, "UPDATE posts SET likes = 100 WHERE id = 1");
            lines(&mut new, "UPDATE posts SET likes = 200 WHERE id = 2");
            fill(executor, plan);
            ok(executor.tighten(plan));
            assert_eq!(lines(owner, UNTOUCHED), "48");
            let of = "SELECT id, likes, score FROM posts WHERE id IN (1, 2, 7, 8) ORDER BY id";
            assert_eq!(lines(&mut new, of), "1 100 200\n2 200 4\n7 7 ~\n8 8 16");
        };
        let first = plan(&database, migration);
        let mut by = executor(&database);
        release(&mut by, &first, &mut owner);
        ok(by.undo(&first));
        drop(by);
        assert_eq!(dump(&mut owner), before);
        lines(&mut owner, "ALTER TABLE posts DISABLE TRIGGER touch");
        lines(&mut owner, "UPDATE posts SET likes = id, title = 't', updated_at = '2020-01-01'");
        lines(&mut owner, "ALTER TABLE posts ENABLE TRIGGER touch");
        let second = plan(&database, migration);
        let mut by = executor(&database);
        release(&mut by, &second, &mut owner);
        ok(by.contract(&second));
        assert_eq!(lines(&mut owner, UNTOUCHED), "48");
        lines(&mut owner, "UPDATE posts SET likes = 3 WHERE id = 3");
        assert_eq!(lines(&mut owner, UNTOUCHED), "47");
        let ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~%'";
        assert_eq!(lines(&mut owner, ours), "0");
    }
}

/// What a trigger of a table that is filled writes elsewhere is written there, and kept in step.
#[test]
fn what_a_trigger_writes_elsewhere_while_rows_are_filled_stays() {
    let Some(database) = Database::new() else { return };
    let mut owner = database.handed_over();
    owner
        .batch_execute(
            "CREATE TABLE counts (id int PRIMARY KEY, n int NOT NULL, seen text);
             CREATE TABLE items (id int PRIMARY KEY, n int);
             CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN UPDATE counts SET n = n + 1; RETURN NULL; END $$;
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN NEW.seen = 'seen'; RETURN NEW; END $$;
             CREATE TRIGGER add AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION add();
             CREATE TRIGGER see BEFORE UPDATE ON counts FOR EACH ROW EXECUTE FUNCTION see();
             INSERT INTO counts VALUES (1, 0);
             INSERT INTO items SELECT n, n FROM generate_series(1, 9) n",
        )
        .expect("tables");
    let plan = plan(
        &database,
        "ALTER TABLE items ALTER n TYPE bigint; ALTER TABLE counts ALTER n TYPE bigint",
    );
    let mut executor = executor(&database);
    ok(executor.expand(&plan));
    fill(&mut executor, &plan);
    let mut new = database.with(&format!("SET search_path = {}, public", plan.views));
    assert_eq!(lines(&mut owner, "SELECT n, seen FROM counts"), "9 seen");
    assert_eq!(lines(&mut new, "SELECT n, seen FROM counts"), "9 seen");
}

/// A role that may leave triggers out does, but for those that are never left out.
#[test]
fn a_trigger_that_always_runs_touches_nothing_either() {
    let Some(database) = Database::new() else { return };
    let mut owner =
        database.with(&format!("{TOUCHED}; ALTER TABLE posts ENABLE ALWAYS TRIGGER touch"));
    let plan = database.plan("ALTER TABLE posts ALTER likes TYPE bigint");
    let mut executor = database.executor();
    ok(executor.expand(&plan));
    fill(&mut executor, &plan);
    assert_eq!(lines(&mut owner, UNTOUCHED), "50");
}
