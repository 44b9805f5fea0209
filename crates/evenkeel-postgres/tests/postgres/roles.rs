//! The tables belong to a role that is no superuser, and code has another one that owns nothing.

use evenkeel_postgres::execute::Failed;

use crate::rig::{Database, lines, told};

const ROLES: &str = "
    DO $$ BEGIN CREATE ROLE landlord LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; END $$;
    DO $$ BEGIN CREATE ROLE clerk LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; END $$;
    DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO landlord', current_database()); END $$;
    GRANT CREATE, USAGE ON SCHEMA public TO landlord; GRANT USAGE ON SCHEMA public TO clerk";

const TABLES: &str = "
    CREATE TABLE people (id serial PRIMARY KEY, city text);
    CREATE TABLE orders (
        id serial PRIMARY KEY, person int NOT NULL REFERENCES people, amount int, note text
    )";

const RIGHTS: &str = "
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clerk;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clerk;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO clerk";

/// A key of another type with a sequence of its own, an answer that reads another table, and a table
/// that is new.
const CHANGE: &str = "
    ALTER TABLE orders ALTER id TYPE bigint;
    ALTER TABLE orders ALTER amount TYPE bigint;
    ALTER TABLE orders RENAME note TO remark;
    -- up: (SELECT p.city FROM people p WHERE p.id = orders.person)
    ALTER TABLE orders ADD COLUMN city text;
    CREATE TABLE visits (id serial PRIMARY KEY, person int REFERENCES people);";

const OLD: &str = "
    INSERT INTO people (city) VALUES ('Ghent');
    INSERT INTO orders (person, amount, note) VALUES (1, 1, 'old');
    UPDATE orders SET amount = amount + 1 WHERE person = 1;
    DELETE FROM orders WHERE note = 'none'";
const NEW: &str = "
    INSERT INTO orders (person, amount, remark, city) VALUES (1, 1, 'new', 'Bruges');
    UPDATE orders SET amount = amount + 1, remark = 'mine' WHERE city = 'Bruges';
    INSERT INTO visits (person) VALUES (1);
    DELETE FROM visits WHERE person = 0";

fn ok<T>(done: Result<T, Failed>, what: &str) -> T {
    done.unwrap_or_else(|error| panic!("{what}: {}", told(&error)))
}

#[test]
fn code_that_owns_nothing_works_through_both_ends_and_is_seen_by_an_owner_who_is_no_superuser() {
    for (database, contract) in
        Database::each().into_iter().flat_map(|it| [(it.another(), false), (it, true)])
    {
        drop(database.with(ROLES));
        let (landlord, clerk) = (database.by("landlord"), database.by("clerk"));
        drop(landlord.with(&format!("{TABLES}; {RIGHTS}")));
        let mut old = clerk.with("SET application_name = 'web@public'");
        let run = |client: &mut postgres::Client, sql: &str, when: &str| {
            client.batch_execute(sql).unwrap_or_else(|it| panic!("{when}: {}", told(&it)));
        };
        run(&mut old, OLD, "before");

        let plan = landlord.plan(CHANGE);
        let mut executor = landlord.executor();
        ok(executor.expand(&plan), "expand");
        let mut new = clerk.through(&plan.views);
        run(&mut old, OLD, "expanded");
        run(&mut new, NEW, "expanded");
        ok(executor.fill(&plan, &mut |_| true), "fill");
        ok(executor.tighten(&plan), "tighten");
        run(&mut old, OLD, "ready");
        run(&mut new, NEW, "ready");
        let cities = "SELECT DISTINCT city FROM orders ORDER BY city";
        assert_eq!(lines(&mut new, cities), "Bruges\nGhent");

        let left = ok(executor.stragglers(&plan), "who is left");
        let [left] = left.as_slice() else { panic!("{left:?}") };
        assert!(left.starts_with("web@public (pid "), "{left}");
        if contract {
            ok(executor.contract(&plan), "contract");
            run(&mut new, NEW, "contracted");
            run(&mut clerk.connect(), NEW, "contracted, the tables");
        } else {
            ok(executor.undo(&plan), "undo");
            run(&mut old, OLD, "undone");
            assert_eq!(lines(&mut old, "SELECT count(*) FROM orders WHERE note = 'mine'"), "2");
        }
    }
}

#[test]
fn rights_that_a_migration_gives_a_role_reach_the_views() {
    for database in Database::each() {
        drop(database.with(ROLES));
        let (landlord, clerk) = (database.by("landlord"), database.by("clerk"));
        drop(landlord.with(TABLES));
        let plan = landlord.plan(RIGHTS);
        let mut executor = landlord.executor();
        ok(executor.expand(&plan), "expand");
        ok(executor.fill(&plan, &mut |_| true), "fill");
        ok(executor.tighten(&plan), "tighten");
        let mut code = clerk.through(&plan.views);
        code.batch_execute(OLD).unwrap_or_else(|it| panic!("{}", told(&it)));
        assert_eq!(lines(&mut code, "SELECT current_schema"), plan.views.as_str());
        ok(executor.contract(&plan), "contract");
        code.batch_execute(OLD).unwrap_or_else(|it| panic!("{}", told(&it)));
    }
}
