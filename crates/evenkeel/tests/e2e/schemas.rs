//! Releases that bring a change of the schema together with the code that needs it.

use std::path::{Path, PathBuf};

use crate::house::House;
use crate::load::{FILES, Load};
use crate::machine::{python_with, skip};
use crate::postgres::Postgres;

const SERVICE: &str = include_str!("programs/orders.py");

const FIRST: &str = "CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL,
    amount int NOT NULL,
    note text
);
CREATE INDEX orders_amount ON orders (amount);
CREATE INDEX orders_customer ON orders (customer);
";

const SECOND: &str = "ALTER TABLE orders ALTER COLUMN amount TYPE bigint;
ALTER TABLE orders RENAME COLUMN note TO remark;
ALTER TABLE orders ADD COLUMN region text NOT NULL; -- up: CASE WHEN customer < 500 THEN 'south' ELSE 'north' END
";

const SERVICES: [(&str, &str); 3] =
    [("orders", "/orders/page"), ("billing", "/billing/page"), ("report", "/report/page")];

/// A PostgreSQL, and a Python that can ask it; nothing, and a line that says why, without them.
fn programs() -> Option<(Postgres, PathBuf)> {
    let database = Postgres::start()?;
    let python = python_with("psycopg");
    if python.is_none() {
        skip("releases with a database: no psycopg (psycopg[binary] from PyPI)");
    }
    Some((database, python?))
}

const MIGRATIONS: &str = "migrations = \"migrations\"";

/// Three services that use one database, in this version, written for this shape.
fn stack(house: &House, python: &Path, version: &str, shape: &str, bake: &str) {
    services(house, python, MIGRATIONS, &SERVICES, (version, shape, bake));
}

/// Services that use one database, whose schema follows files.
fn services(
    house: &House,
    python: &Path,
    follows: &str,
    services: &[(&str, &str)],
    (version, shape, bake): (&str, &str, &str),
) {
    let python = python.display();
    let services = services.iter().map(|(name, _)| {
        format!(
            "[service.{name}]\nrun = \"{python} orders.py\"\nuses = \"database.main\"\n\
             replicas = 2\nhealth = \"/healthz\"\n\
             env = {{ VERSION = \"{version}\", SHAPE = \"{shape}\" }}\n\
             [service.{name}.rollout]\nstrategy = \"blue-green\"\nmin_ready = \"0s\"\n\
             bake = \"{bake}\"\n[route.{name}]\nto = \"{name}\"\npath = \"/{name}\"\n"
        )
    });
    let services: String = services.collect();
    house.stack(&format!("[database.main]\nurl = \"file:address\"\n{follows}\n{services}"));
}

#[test]
fn a_type_changes_with_three_services_under_load_forward_and_back() {
    let Some((database, python)) = programs() else { return };
    let house = House::new();
    house.write("orders.py", SERVICE);
    house.write("address", &database.url());
    house.write("migrations/0001_orders.sql", FIRST);
    stack(&house, &python, "v1", "1", "0s");
    house.up();
    house.until_settled();
    assert_eq!(database.ask("SELECT count(*) FROM public_r1.orders"), "0");
    database.ask(
        "INSERT INTO orders (customer, amount, note)
         SELECT n % 1000, n, 'old' FROM generate_series(1, 100000) n",
    );
    let loads: Vec<Load> =
        SERVICES.iter().map(|(_, path)| Load::on(house.listen, path, FILES)).collect();
    let answered = |version: &str| loads.iter().for_each(|it| it.until_answered(version, 50));
    answered("v1");

    // Forward, and back before contract: what the new code wrote is there in the old shape.
    house.write("migrations/0002_amount.sql", SECOND);
    stack(&house, &python, "v2", "2", "10m");
    house.run(&["plan"]).exits(2).says("fill about").says("orders.note");
    house.run(&["apply", "--detach", "--yes"]).exits(0);
    answered("v2");
    house.until_phase("baking");
    assert_eq!(database.ask("SELECT count(*) FROM public_r2.orders WHERE region IS NULL"), "0");
    house.run(&["rollback"]).exits(0);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "fast_rolled_back");
    let seen = loads.iter().map(|it| it.look(|report| report.answers("v1"))).collect::<Vec<_>>();
    for (load, seen) in loads.iter().zip(seen) {
        load.until_answered("v1", seen + 20);
    }
    assert_eq!(columns(&database), "id integer, customer integer, amount integer, note text");

    // Forward for good.
    stack(&house, &python, "v3", "2", "1s");
    house.run(&["apply", "--yes"]).exits(0);
    answered("v3");
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    assert_eq!(
        columns(&database),
        "id integer, customer integer, remark text, amount bigint, region text"
    );
    let wrong = "SELECT count(*) FROM orders WHERE region NOT IN
        ('east', CASE WHEN customer < 500 THEN 'south' ELSE 'north' END)";
    assert_eq!(database.ask(wrong), "0");
    for load in loads {
        load.stop_unharmed();
    }
    house.run(&["rollback"]).exits(1).says("in a shape that is gone");
}

/// A word that stands in an address, which nobody is to see.
const PASSWORD: &str = "hush-4711";

#[test]
fn code_that_owns_nothing_never_sees_the_address_of_the_owner() {
    let Some((database, python)) = programs() else { return };
    database.ask(
        "CREATE ROLE landlord LOGIN; CREATE ROLE clerk LOGIN;
         GRANT CREATE ON DATABASE shop TO landlord; GRANT CREATE ON SCHEMA public TO landlord;
         ALTER DEFAULT PRIVILEGES FOR ROLE landlord
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clerk;
         ALTER DEFAULT PRIVILEGES FOR ROLE landlord GRANT USAGE ON SEQUENCES TO clerk",
    );
    let mut house = House::new();
    let owner = database.url_of(&format!("landlord:{PASSWORD}"));
    house.env.insert("OWNER_URL".to_owned(), owner);
    house.write("orders.py", SERVICE);
    house.write("address", &database.url_of("clerk"));
    house.write("migrations/0001_orders.sql", FIRST);
    let follows = format!("owner = \"env:OWNER_URL\"\n{MIGRATIONS}");
    let stack = |version: &str, shape: &str, bake: &str, beside: &str| {
        let follows = format!("{follows}\n{beside}");
        services(&house, &python, &follows, &SERVICES[..1], (version, shape, bake));
    };
    stack("v1", "1", "0s", "");
    house.up();
    house.until_settled();
    let load = Load::on(house.listen, SERVICES[0].1, FILES);
    load.until_answered("v1", 50);

    house.write("migrations/0002_amount.sql", SECOND);
    stack("v2", "2", "10m", "[database.past]\nurl = \"file:address\"");
    house.run(&["plan"]).exits(2).says("database past is the same one");
    stack("v2", "2", "10m", "");
    house.run(&["apply", "--detach", "--yes"]).exits(0);
    load.until_answered("v2", 50);
    house.until_phase("baking");
    unseen(&house);
    house.run(&["rollback"]).exits(0);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "fast_rolled_back");
    assert_eq!(columns(&database), "id integer, customer integer, amount integer, note text");

    stack("v3", "2", "0s", "");
    house.run(&["apply", "--yes"]).exits(0);
    load.until_answered("v3", 50);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    load.stop_unharmed();
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.ask(owners), "landlord");
    let users = "SELECT DISTINCT usename FROM pg_stat_activity
                 WHERE application_name LIKE 'orders@%'";
    assert_eq!(database.ask(users), "clerk");
    unseen(&house);
}

/// Checks that the password is nowhere but where secrets are kept.
fn unseen(house: &House) {
    let has = |content: &[u8]| content.windows(PASSWORD.len()).any(|it| it == PASSWORD.as_bytes());
    let instances = house.instances("orders");
    assert!(!instances.is_empty());
    for (instance, pid) in instances {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!has(&environment), "{instance}");
    }
    for (pid, command) in house.processes() {
        assert!(!has(command.as_bytes()), "{pid}: {command}");
    }
    let (mut folders, mut kept, mut looked) = (vec![house.file("")], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let found = std::fs::read(entry.path()).is_ok_and(|it| has(&it));
                let is_kept = entry.path().starts_with(house.file("secrets"));
                assert!(is_kept || !found, "{}", entry.path().display());
                kept += usize::from(is_kept && found);
                looked += usize::from(!is_kept);
            }
        }
    }
    assert!(kept == 1 && looked > 5, "{kept} kept, {looked} looked at");
}

/// The columns of the table itself.
fn columns(database: &Postgres) -> String {
    database.ask(
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = 'public.orders'::regclass AND attnum > 0
         AND NOT attisdropped",
    )
}

/// What the two migrations come to, as one file.
const DESIRED: &str = "CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL,
    amount bigint NOT NULL,
    remark text, -- was: note
    region text NOT NULL -- up: CASE WHEN customer < 500 THEN 'south' ELSE 'north' END
);
CREATE INDEX orders_amount ON orders (amount);
CREATE INDEX orders_customer ON orders (customer);
";

#[test]
fn a_desired_schema_is_released_with_its_code_and_what_somebody_changed_by_hand_is_seen() {
    let Some((database, python)) = programs() else { return };
    let house = House::new();
    house.write("orders.py", SERVICE);
    house.write("address", &database.url());
    let release = |version: &str, shape: &str| {
        let follows = "desired = \"schema.sql\"";
        services(&house, &python, follows, &SERVICES[..1], (version, shape, "0s"));
    };
    // A database that has its tables already is taken as it is.
    database.ask(FIRST);
    database.ask(
        "INSERT INTO orders (customer, amount, note)
         SELECT n % 1000, n, 'old' FROM generate_series(1, 10000) n",
    );
    house.write("schema.sql", FIRST);
    release("v1", "1");
    house.up();
    house.until_settled();
    let load = Load::on(house.listen, SERVICES[0].1, FILES);
    load.until_answered("v1", 50);

    house.write("schema.sql", DESIRED);
    release("v2", "2");
    house.run(&["schema", "plan"]).exits(2).says("ALTER TABLE orders RENAME COLUMN note TO remark");
    house.run(&["apply", "--yes"]).exits(0);
    load.until_answered("v2", 50);
    house.until_settled();
    load.stop_unharmed();
    assert_eq!(
        columns(&database),
        "id integer, customer integer, remark text, amount bigint, region text"
    );
    house.run(&["schema", "plan"]).exits(0).says("nothing to do");
    house.run(&["plan"]).exits(0);
    database.ask("DROP INDEX orders_customer");
    house.run(&["schema", "status"]).exits(0).says("waiting for a release: schema.sql");
    house.run(&["plan"]).exits(2).says("schema.sql");
}
