//! One change at a time, looked at through both shapes in every phase.

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
