//! A change of the schema that takes its time: it is seen how far it is.

use serde_json::Value;

use crate::house::House;
use crate::postgres::Postgres;
use crate::programs::Program;

/// Filling a row takes as long as `pace` says.
const FIRST: &str = "CREATE TABLE pace (seconds float8 NOT NULL);
INSERT INTO pace VALUES (0.004); -- undo: nothing
CREATE FUNCTION slowly(n int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep((SELECT seconds FROM public.pace)); RETURN n * 2; END $$;
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount int, filler text);
";

const SECOND: &str = "ALTER TABLE orders ADD COLUMN twice bigint NOT NULL; -- up: slowly(amount)\n";

const ROWS: u64 = 5000;

/// A house with a database whose next change fills rows for long.
fn house(database: &Postgres) -> House {
    let house = House::new();
    house.write("address", &database.url());
    house.write("migrations/1.sql", FIRST);
    stack(&house, "v1", "0s");
    house.up();
    house.until_settled();
    database.ask(&format!(
        "INSERT INTO orders (amount, filler) SELECT n, repeat('x', 700) FROM generate_series(1, {ROWS}) n;
         ANALYZE orders"
    ));
    house.write("migrations/2.sql", SECOND);
    stack(&house, "v2", "0s");
    house
}

fn stack(house: &House, version: &str, bake: &str) {
    house.write(&format!("{version}/page"), version);
    let service = format!(
        "run = \"python3 -m http.server $PORT --bind 127.0.0.1 --directory {version}\"\n\
         health = \"/page\""
    );
    house.stack(&format!(
        "[database.main]\nurl = \"file:address\"\nmigrations = \"migrations\"\n\
         [service.web]\n{service}\nreplicas = 1\nuses = \"database.main\"\n\
         [service.web.rollout]\nstrategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"{bake}\"\n\
         [route.web]\nto = \"web\"\n"
    ));
}

/// The schema that the release changes.
fn schema(status: &Value) -> &Value {
    &status["release"]["schemas"][0]
}

#[test]
fn a_change_that_takes_its_time_tells_how_far_it_is() {
    if !Program::Python.is_here() {
        return;
    }
    let Some(database) = Postgres::start() else { return };
    let house = house(&database);
    house.run(&["apply", "--detach", "--yes"]).exits(0);

    let seen = house.until("rows are filled", |status| {
        let seen = schema(status);
        (seen["left_s"].as_u64()? > 0 && seen["rows_per_s"].as_u64()? > 0).then(|| seen.clone())
    });
    assert_eq!((&seen["database"], &seen["revision"]), (&"main".into(), &2.into()));
    assert_eq!((&seen["stage"], &seen["of_rows"]), (&"filling".into(), &ROWS.into()));
    let rows = seen["rows"].as_u64().unwrap();
    assert!(rows > 0 && rows < ROWS, "{seen}");
    house.run(&["status"]).exits(0).says("of about 5000");
    house.run(&["why"]).exits(0).says("database main gets its new shape, revision 2: ");
    house.run(&["schema", "status"]).exits(0).says(" of about 5000 rows, ").says(" left");
    let asked = house.run(&["schema", "status", "--json"]).exits(0).json();
    let asked = &asked[0]["under_way"];
    assert!(
        asked["rows_per_s"].as_u64() > Some(0) && asked["left_s"].as_u64() > Some(0),
        "{asked}"
    );
    assert!(asked["rows_filled"].as_u64() >= Some(rows), "{asked}");

    database.ask("UPDATE pace SET seconds = 0");
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    assert_eq!(database.ask("SELECT count(*) FROM orders WHERE twice = amount * 2"), "5000");
}

#[test]
fn who_keeps_a_change_waiting_is_named_until_they_go() {
    if !Program::Python.is_here() {
        return;
    }
    let Some(database) = Postgres::start() else { return };
    let house = house(&database);
    database.ask("UPDATE pace SET seconds = 0");
    let named = |what: &str, client: &str, holds: &str| {
        house.until(what, |status| {
            let trouble = schema(status)["trouble"].as_str()?;
            (trouble.contains(client) && trouble.contains(holds)).then_some(())
        });
        house.run(&["why"]).exits(0).says(client).says("pg_terminate_backend");
    };

    let reader = database.client("report", "BEGIN; SELECT count(*) FROM orders");
    house.run(&["apply", "--detach", "--yes"]).exits(0);
    named("the reader is named", ", report, in a transaction", "AccessShareLock on orders");
    let writer = database.client("writer", "BEGIN; UPDATE orders SET amount = 7 WHERE id = 7");
    drop(reader);
    named("the writer is named", ", writer, in a transaction", "RowExclusiveLock on orders");
    drop(writer);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    assert_eq!(database.ask("SELECT count(*) FROM orders WHERE twice = amount * 2"), "5000");
}

#[test]
fn a_pause_lasts_over_a_death_of_control_until_somebody_resumes() {
    if !Program::Python.is_here() {
        return;
    }
    let Some(database) = Postgres::start() else { return };
    let house = house(&database);
    house.run(&["apply", "--detach", "--yes"]).exits(0);
    house.until("rows are filled", |status| schema(status)["rows"].as_u64().filter(|it| *it > 0));
    house.run(&["pause"]).exits(0);
    let paused = |status: &Value| (schema(status)["stage"] == "paused").then_some(());
    house.until("the schema is paused", paused);
    // From here on all rows would be filled in a moment.
    database.ask("UPDATE pace SET seconds = 0");
    let filled = || database.ask("SELECT sum(rows) FROM evenkeel.backfill");
    let before = filled();
    let control = house.kill("control");
    house.until_back("control", control);
    for _ in 0..10 {
        house.until("the schema is still paused", paused);
    }
    assert_eq!(filled(), before);
    house.run(&["why"]).exits(0).says("is paused by").says("gets its new shape, revision 2");
    house.run(&["resume"]).exits(0);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    assert_eq!(database.ask("SELECT count(*) FROM orders WHERE twice = amount * 2"), "5000");
}

#[test]
fn a_change_that_cannot_begin_says_what_to_do() {
    if !Program::Python.is_here() {
        return;
    }
    let Some(database) = Postgres::start() else { return };
    let house = house(&database);
    stack(&house, "v2", "10m");
    house.run(&["apply", "--detach", "--yes"]).exits(0);
    house.until("rows are filled", |status| schema(status)["rows"].as_u64().filter(|it| *it > 0));
    house.write("migrations/3.sql", "ALTER TABLE orders ADD CHECK (amount < 5000);\n");
    house.run(&["plan"]).exits(1).says("is expanded").says("take it back with `evenkeel abort`");
    database.ask("UPDATE pace SET seconds = 0");
    house.until_phase("baking");
    house.run(&["plan"]).exits(1).says("is ready").says("`evenkeel promote` takes the next step");
    house.run(&["promote"]).exits(0);
    house.until_settled();

    database.ask("CREATE SCHEMA public_r3");
    house.run(&["plan"]).exits(1).says("has a schema \"public_r3\" already");
    database.ask("DROP SCHEMA public_r3");
    house.run(&["plan"]).exits(2).says("such as id 5000; they would");
}
