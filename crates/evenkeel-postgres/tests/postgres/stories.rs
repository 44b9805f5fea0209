//! One change at a time, looked at through both shapes in every phase.

use crate::catalog::dump;
use crate::rig::{Database, lines, told};

#[test]
fn a_column_changes_its_type_while_both_shapes_are_written() {
    let Some(database) = Database::new() else { return };
    let mut old = database.with(
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             amount_cents int NOT NULL DEFAULT 0, note text);
         CREATE INDEX orders_amount ON orders (amount_cents);
         INSERT INTO orders (amount_cents, note) SELECT n, 'n' || n FROM generate_series(1, 1000) n",
    );
    let plan = database.plan("ALTER TABLE orders ALTER COLUMN amount_cents TYPE bigint;");
    let mut executor = database.executor();
    executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
    let mut new = database.through(&plan.views);

    lines(&mut old, "INSERT INTO orders (amount_cents) VALUES (7)");
    lines(&mut new, "INSERT INTO orders (amount_cents) VALUES (8)");
    lines(&mut new, "UPDATE orders SET amount_cents = 99 WHERE id = 5");
    lines(&mut old, "UPDATE orders SET amount_cents = 77 WHERE id = 6");
    lines(&mut old, "UPDATE orders SET note = 'x' WHERE id = 7");
    let query = "SELECT id, amount_cents FROM orders WHERE id IN (5, 6, 7, 1001, 1002) ORDER BY id";
    assert_eq!(lines(&mut old, query), "5 99\n6 77\n7 7\n1001 7\n1002 8");
    assert_eq!(lines(&mut new, query), "5 99\n6 77\n7 7\n1001 7\n1002 8");

    assert!(executor.fill(&plan, &mut |_| true).unwrap_or_else(|error| panic!("{}", told(&error))));
    assert_eq!(
        lines(&mut new, "SELECT count(*), sum(amount_cents) FROM orders"),
        lines(&mut old, "SELECT count(*), sum(amount_cents) FROM orders")
    );
    executor.tighten(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
    executor.contract(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(lines(&mut new, query), "5 99\n6 77\n7 7\n1001 7\n1002 8");
    lines(&mut new, "INSERT INTO orders (note) VALUES ('y')");
    assert_eq!(lines(&mut new, "SELECT amount_cents FROM orders WHERE note = 'y'"), "0");
}

/// Code of a revision goes by its views: what it prepared stays as it is while the next revision comes
/// and the one it knows becomes the old one.
#[test]
fn prepared_statements_live_through_the_next_change() {
    for database in Database::each() {
        drop(database.with(
            "CREATE TABLE t (id serial PRIMARY KEY, n int NOT NULL, note text);
             INSERT INTO t (n) SELECT generate_series(1, 100)",
        ));
        let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
            done.unwrap_or_else(|error| panic!("{}", told(&error)));
        };
        let mut executor = database.executor();
        let expand = |executor: &mut evenkeel_postgres::execute::Executor, plan| {
            ok(executor.expand(plan));
            ok(executor.fill(plan, &mut |_| true).map(drop));
            ok(executor.tighten(plan));
        };
        drop(executor);
        let first = database.plan("ALTER TABLE t ALTER n TYPE bigint");
        executor = database.executor();
        expand(&mut executor, &first);
        let mut code = database.through(&first.views);
        let all = code.prepare("SELECT * FROM t WHERE id = $1").expect("prepared");
        let upsert = "INSERT INTO t (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE
                      SET n = excluded.n RETURNING *";
        let upsert = code.prepare(upsert).expect("prepared");
        let locked = code.prepare("SELECT n FROM t WHERE id = $1 FOR UPDATE").expect("prepared");
        let mut work = |when: &str| {
            let rows = [
                code.query(&all, &[&7]),
                code.query(&upsert, &[&7, &70_i64]),
                code.query(&locked, &[&7]),
            ];
            for rows in rows {
                let rows = rows.unwrap_or_else(|error| panic!("{when}: {}", told(&error)));
                assert_eq!(rows.len(), 1, "{when}");
            }
        };
        work("ready");
        ok(executor.contract(&first));
        work("contracted");
        drop(executor);
        let second = database.plan(
            "ALTER TABLE t ADD state text NOT NULL DEFAULT 'new'; ALTER TABLE t RENAME note TO remark;
             ALTER TABLE t ALTER n TYPE numeric",
        );
        executor = database.executor();
        expand(&mut executor, &second);
        work("the next is ready");
        // The old code may still fill the table at once, by its name.
        let mut copy = database.connect();
        let mut rows = copy.copy_in("COPY public.t (id, n) FROM STDIN").expect("a copy");
        std::io::Write::write_all(&mut rows, b"1001\t5\n1002\t6\n").expect("rows");
        assert_eq!(rows.finish().expect("done"), 2);
        let mut new = database.through(&second.views);
        assert_eq!(
            lines(&mut new, "SELECT id, n, state FROM t WHERE id > 1000 ORDER BY id"),
            "1001 5 new\n1002 6 new"
        );
        ok(executor.undo(&second));
        work("the next is undone");
    }
}

/// Expressions over another table are computed for each row; that table is not watched.
#[test]
fn a_column_moves_to_another_table() {
    let Some(database) = Database::new() else { return };
    let mut old = database.with(
        "CREATE TABLE customer (id int PRIMARY KEY, city text NOT NULL, customer int DEFAULT 9);
         CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customer);
         INSERT INTO customer VALUES (1, 'Bonn'), (2, 'Kiel');
         INSERT INTO orders (customer) SELECT 1 + n % 2 FROM generate_series(1, 10) n",
    );
    let plan = database.plan(
        "ALTER TABLE orders ADD city text NOT NULL
             -- up: (SELECT c.city FROM customer c WHERE c.id = orders.customer)
        ",
    );
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
        done.unwrap_or_else(|error| panic!("{}", told(&error)));
    };
    ok(executor.expand(&plan));
    lines(&mut old, "INSERT INTO orders (customer) VALUES (2)");
    ok(executor.fill(&plan, &mut |_| true).map(drop));
    ok(executor.tighten(&plan));
    let mut new = database.through(&plan.views);
    let query = "SELECT count(*) FROM orders o JOIN customer c ON c.id = o.customer
                 WHERE o.city = c.city";
    assert_eq!(lines(&mut new, query), "11");
    ok(executor.contract(&plan));
    assert_eq!(lines(&mut new, query), "11");
}

/// Carries a plan out to this point.
fn bring(
    executor: &mut evenkeel_postgres::execute::Executor,
    plan: &evenkeel_postgres::plan::Plan,
) {
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
        done.unwrap_or_else(|error| panic!("{}", told(&error)));
    };
    ok(executor.expand(plan));
    ok(executor.fill(plan, &mut |_| true).map(drop));
    ok(executor.tighten(plan));
}

#[test]
fn what_code_makes_beside_the_views_outlives_them() {
    let Some(database) = Database::new() else { return };
    drop(
        database.with("CREATE TABLE t (id int PRIMARY KEY, q text); INSERT INTO t VALUES (1, 'x')"),
    );
    let first = database.plan("ALTER TABLE t ADD n int DEFAULT 5");
    let mut executor = database.executor();
    bring(&mut executor, &first);
    executor.contract(&first).unwrap();
    let mut code = database.through(&first.views);
    let made = "CREATE TABLE sessions (id serial PRIMARY KEY, data text);
                INSERT INTO sessions (data) VALUES ('precious'); CREATE SEQUENCE numbers";
    code.batch_execute(made).unwrap();
    drop(executor);

    let second = database.plan("ALTER TABLE t ADD z int");
    let mut executor = database.executor();
    bring(&mut executor, &second);
    // A view elsewhere that reads by the views holds the contract, and says so.
    code.batch_execute("CREATE VIEW public.report AS SELECT q FROM t").unwrap();
    let held = told(&executor.contract(&second).unwrap_err());
    assert!(held.contains("report reads by \"public_r1\""), "{held}");
    code.batch_execute("DROP VIEW public.report").unwrap();
    executor.contract(&second).unwrap();
    let mut code = database.through(&second.views);
    assert_eq!(lines(&mut code, "SELECT data FROM sessions"), "precious");
    assert_eq!(lines(&mut code, "SELECT nextval('numbers')"), "1");

    // And so does what it made on a way that was taken back.
    drop(executor);
    let third = database.plan("ALTER TABLE t ADD y int");
    let mut executor = database.executor();
    bring(&mut executor, &third);
    let mut code = database.through(&third.views);
    code.batch_execute("CREATE TABLE later (id int); INSERT INTO later VALUES (7)").unwrap();
    executor.undo(&third).unwrap();
    assert_eq!(lines(&mut database.through(&second.views), "SELECT id FROM later"), "7");
}

#[test]
fn a_row_that_new_code_writes_to_the_table_itself_has_the_old_shape() {
    let Some(database) = Database::new() else { return };
    drop(database.with("CREATE TABLE t (id int PRIMARY KEY, q text, c int NOT NULL)"));
    let plan = database.plan(
        "ALTER TABLE t ALTER q TYPE int USING q::int; -- down: q::text
         ALTER TABLE t ALTER c TYPE bigint",
    );
    let mut executor = database.executor();
    bring(&mut executor, &plan);
    let mut new = database.through(&plan.views);
    lines(&mut new, "INSERT INTO public.t (id, q, c) VALUES (1, '42', 7)");
    lines(&mut new, "INSERT INTO t (id, q, c) VALUES (2, NULL, 8)");
    assert_eq!(lines(&mut new, "SELECT * FROM t ORDER BY id"), "1 42 7\n2 ~ 8");
    let plain = "SELECT id, q, c FROM public.t ORDER BY id";
    assert_eq!(lines(&mut new, plain), "1 42 7\n2 ~ 8");
}

#[test]
fn old_code_that_changes_something_else_need_not_know_of_a_value_that_does_not_fit() {
    let Some(database) = Database::new() else { return };
    let mut old = database.with(
        "CREATE TABLE t (id int PRIMARY KEY, q text, n int DEFAULT 0);
         INSERT INTO t (id, q) VALUES (1, '1'), (2, 'abc')",
    );
    let plan = database.plan("ALTER TABLE t ALTER q TYPE int USING q::int; -- down: q::text");
    let mut executor = database.executor();
    executor.expand(&plan).unwrap();
    lines(&mut old, "UPDATE t SET n = n + 1");
    let new = "SELECT id, q, n FROM t ORDER BY id";
    assert_eq!(lines(&mut database.through(&plan.views), new), "1 1 1\n2 ~ 1");
    let failed = told(&executor.fill(&plan, &mut |_| true).unwrap_err());
    assert!(failed.contains("invalid input syntax for type integer: \"abc\""), "{failed}");
    executor.undo(&plan).unwrap();
    assert_eq!(lines(&mut old, "SELECT q FROM t ORDER BY id"), "1\nabc");
}

/// What stands in the way of contract is known before code of the new shape gets traffic, and nothing
/// of the rehearsal stays.
#[test]
fn a_contract_that_would_fail_is_known_while_there_is_a_way_back() {
    let Some(database) = Database::new() else { return };
    let mut owner = database.with(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
         INSERT INTO t VALUES (1);
         CREATE SCHEMA elsewhere; CREATE VIEW elsewhere.ids AS SELECT id FROM public.t",
    );
    let before = dump(&mut owner);
    let plan = database.plan("DROP TABLE t; ALTER TABLE u RENAME TO w");
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
        done.unwrap_or_else(|error| panic!("{}", told(&error)));
    };
    ok(executor.expand(&plan));
    ok(executor.fill(&plan, &mut |_| true).map(drop));
    let failed = executor.tighten(&plan).expect_err("a view elsewhere reads what goes");
    assert!(failed.is_final() && told(&failed).contains("elsewhere.ids"), "{}", told(&failed));
    assert_eq!(lines(&mut owner, "SELECT id FROM t"), "1");
    owner.batch_execute("DROP VIEW elsewhere.ids").expect("dropped");
    ok(executor.tighten(&plan));
    assert_eq!(lines(&mut owner, "SELECT id FROM t"), "1");
    ok(executor.undo(&plan));
    assert_eq!(dump(&mut owner), before);
}

/// What an earlier version wrote down is read by this one, and gone on with.
#[test]
fn a_ledger_of_an_earlier_version_is_gone_on_with() {
    let Some(database) = Database::new() else { return };
    let mut owner = database.with(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n;
         CREATE SCHEMA evenkeel;
         CREATE TABLE evenkeel.backfill (schema text NOT NULL, number integer NOT NULL,
             position integer NOT NULL, pages bigint NOT NULL, region bigint NOT NULL DEFAULT 0,
             pass integer NOT NULL DEFAULT 0, page bigint NOT NULL DEFAULT 0,
             rows bigint NOT NULL DEFAULT 0, PRIMARY KEY (schema, number, position))",
    );
    let plan = database.plan("ALTER TABLE t ALTER n TYPE bigint");
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
        done.unwrap_or_else(|error| panic!("{}", told(&error)));
    };
    ok(executor.expand(&plan));
    ok(executor.fill(&plan, &mut |_| true).map(drop));
    ok(executor.tighten(&plan));
    ok(executor.contract(&plan));
    assert_eq!(lines(&mut owner, "SELECT sum(n) FROM t"), "500500");
}

/// A function or a view that cannot take the place of the one that is there is told with what is
/// missing; and with that it goes.
#[test]
fn what_cannot_be_replaced_says_what_to_drop_first() {
    let cases = [
        (
            "CREATE OR REPLACE FUNCTION f(a int) RETURNS text LANGUAGE sql AS 'SELECT ''t'''",
            "DROP FUNCTION f(integer)",
        ),
        (
            "CREATE OR REPLACE FUNCTION f(b int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
            "DROP FUNCTION f(integer)",
        ),
        ("CREATE OR REPLACE VIEW v AS SELECT id FROM t", "DROP VIEW v"),
        ("CREATE OR REPLACE VIEW v (a, b) AS SELECT id, n FROM t", "DROP VIEW v"),
    ];
    for database in Database::each() {
        let mut owner = database.with(
            "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT id, n FROM t;
             CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        );
        let before = dump(&mut owner);
        for (migration, first) in cases {
            let plan = database.plan(&format!("{migration}; ALTER TABLE t ADD m int"));
            let mut executor = database.executor();
            executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
            executor.fill(&plan, &mut |_| true).unwrap_or_else(|error| panic!("{}", told(&error)));
            let failed = executor.tighten(&plan).expect_err("it has another form");
            let said = told(&failed);
            let says = said.contains(&format!("say `{first}` before it"));
            assert!(failed.is_final() && says, "{said}");
            executor.undo(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
            assert_eq!(dump(&mut owner), before);
            drop(executor);
            let plan = database.plan(&format!("{first}; {migration}; ALTER TABLE t ADD m int"));
            let mut executor = database.executor();
            bring(&mut executor, &plan);
            executor.undo(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        }
    }
}
