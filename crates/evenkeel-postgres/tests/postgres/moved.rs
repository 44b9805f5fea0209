//! Columns that move from one table to another, under random writes through both shapes, beside a
//! model of what both must show.

use std::collections::BTreeMap;

use evenkeel_postgres::plan::Plan;
use postgres::Client;

use crate::catalog::dump;
use crate::rig::{Database, lines, told};

/// A table from which columns move into one that is new.
const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text, city text);
    INSERT INTO people SELECT n, 'n' || n, CASE WHEN n % 3 > 0 THEN 'c' || n END
    FROM generate_series(1, 2000) n";
const SPLIT: &str = "CREATE TABLE addresses (
        person int PRIMARY KEY REFERENCES people (id) ON DELETE CASCADE, city text NOT NULL);
    INSERT INTO addresses (person, city) SELECT p.id, p.city FROM people p WHERE p.city IS NOT NULL;
    ALTER TABLE people DROP COLUMN city;
        -- down: (SELECT a.city FROM addresses a WHERE a.person = people.id)";

/// A column that moves to where it is asked for.
const ORDERS: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text, city text);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, at date);
    CREATE INDEX ON orders (customer);
    INSERT INTO customers SELECT n, 'n' || n, CASE WHEN n % 3 > 0 THEN 'c' || n END
    FROM generate_series(1, 100) n;
    INSERT INTO orders SELECT n, n % 100 + 1 FROM generate_series(1, 1000) n";
const MOVE: &str = "
    -- up: (SELECT c.city FROM customers c WHERE c.id = orders.customer)
    ALTER TABLE orders ADD COLUMN city text;
    -- down: (SELECT max(o.city) FROM orders o WHERE o.customer = customers.id)
    ALTER TABLE customers DROP COLUMN city;";

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", told(&error)));
}

fn pairs(client: &mut Client, query: &str) -> BTreeMap<i64, String> {
    let text = lines(client, query);
    let one = |line: &str| {
        let (id, city) = line.split_once(' ').expect("two columns");
        (id.parse().expect("a number"), city.to_owned())
    };
    text.lines().map(one).collect()
}

/// That two show the same; says the first few rows that differ.
fn same(is: &BTreeMap<i64, String>, should: &BTreeMap<i64, String>) {
    let keys = is.keys().chain(should.keys()).filter(|it| is.get(it) != should.get(it));
    let some: Vec<String> = keys
        .take(5)
        .map(|it| format!("{it}: {:?}, not {:?}", is.get(it), should.get(it)))
        .collect();
    assert!(some.is_empty(), "{}", some.join("; "));
}

/// What somebody does in each phase, through both shapes.
trait Play {
    /// One write of the old code, or of the new one, which is there once all rows are.
    fn write(&mut self, clients: (&mut Client, Option<&mut Client>), random: &mut fastrand::Rng);
    fn check(&self, old: &mut Client, new: &mut Client, filled: bool);
}

/// Goes through all phases to one of the ends.
fn play(before: &str, migration: &str, contract: bool, play: &mut dyn Play) {
    let Some(database) = Database::new() else { return };
    let mut owner = database.with(before);
    let shape = dump(&mut owner);
    let plan: Plan = database.plan(migration);
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>| {
        done.unwrap_or_else(|error| panic!("{}", told(&error)));
    };
    ok(executor.expand(&plan));
    let (mut old, mut new) = (database.connect(), database.through(&plan.views));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..150 {
        play.write((&mut old, None), &mut random);
    }
    play.check(&mut old, &mut new, false);
    ok(executor.fill(&plan, &mut |_| true).map(drop));
    play.check(&mut old, &mut new, true);
    for _ in 0..300 {
        play.write((&mut old, Some(&mut new)), &mut random);
        play.check(&mut old, &mut new, true);
    }
    ok(executor.tighten(&plan));
    if contract {
        ok(executor.contract(&plan));
        let other = database.another();
        run(&mut other.with(before), migration);
        let different = crate::catalog::differences(&dump(&mut owner), &dump(&mut other.connect()));
        assert_eq!(different, "");
    } else {
        ok(executor.undo(&plan));
        assert_eq!(dump(&mut owner), shape);
    }
}

struct Split {
    /// The cities, by people; `~` is none.
    cities: BTreeMap<i64, String>,
    next: i64,
}

impl Play for Split {
    fn write(
        &mut self,
        (old, new): (&mut Client, Option<&mut Client>),
        random: &mut fastrand::Rng,
    ) {
        let known: Vec<i64> = self.cities.keys().copied().collect();
        let id = known[random.usize(0..known.len())];
        let city = format!("x{}", random.u32(..));
        let new = new.filter(|_| random.bool());
        match (new, random.u8(0..4)) {
            (None, 0) => {
                self.next += 1;
                let id = self.next;
                run(old, &format!("INSERT INTO people VALUES ({id}, 'o', '{city}')"));
                self.cities.insert(id, city);
            }
            (None, 1) => {
                run(old, &format!("UPDATE people SET city = '{city}' WHERE id = {id}"));
                self.cities.insert(id, city);
            }
            (None, 2) => {
                run(old, &format!("UPDATE people SET city = NULL, name = 'z' WHERE id = {id}"));
                self.cities.insert(id, "~".to_owned());
            }
            (None, _) => {
                run(old, &format!("DELETE FROM people WHERE id = {id}"));
                self.cities.remove(&id);
            }
            (Some(new), 0) => {
                self.next += 1;
                let id = self.next;
                run(new, &format!("INSERT INTO people (id, name) VALUES ({id}, 'n')"));
                self.cities.insert(id, "~".to_owned());
            }
            (Some(new), 1) => {
                let put = format!(
                    "INSERT INTO addresses VALUES ({id}, '{city}')
                     ON CONFLICT (person) DO UPDATE SET city = excluded.city"
                );
                run(new, &put);
                self.cities.insert(id, city);
            }
            (Some(new), 2) => {
                run(new, &format!("DELETE FROM addresses WHERE person = {id}"));
                self.cities.insert(id, "~".to_owned());
            }
            (Some(new), _) => {
                run(new, &format!("DELETE FROM people WHERE id = {id}"));
                self.cities.remove(&id);
            }
        }
    }

    fn check(&self, old: &mut Client, new: &mut Client, filled: bool) {
        same(&pairs(old, "SELECT id, city FROM people"), &self.cities);
        if filled {
            let query =
                "SELECT p.id, a.city FROM people p LEFT JOIN addresses a ON a.person = p.id";
            same(&pairs(new, query), &self.cities);
        }
    }
}

fn split() -> Split {
    let city = |n: i64| if n % 3 > 0 { format!("c{n}") } else { "~".to_owned() };
    Split { cities: (1..=2000).map(|n| (n, city(n))).collect(), next: 2000 }
}

#[test]
fn columns_move_into_a_new_table_while_both_shapes_are_written() {
    play(PEOPLE, SPLIT, true, &mut split());
    play(PEOPLE, SPLIT, false, &mut split());
}

/// The cities of orders, as the new shape has them, with their customers.
struct Move {
    orders: BTreeMap<i64, (i64, String)>,
    /// The cities of customers, as the old shape has them.
    customers: BTreeMap<i64, String>,
}

impl Move {
    fn of(&self, customer: i64) -> String {
        let cities = self.orders.values().filter(|(it, _)| *it == customer).map(|(_, it)| it);
        cities.filter(|it| *it != "~").max().cloned().unwrap_or_else(|| "~".to_owned())
    }
}

impl Play for Move {
    fn write(
        &mut self,
        (old, new): (&mut Client, Option<&mut Client>),
        random: &mut fastrand::Rng,
    ) {
        let (order, customer) = (random.i64(1..=1000), random.i64(1..=100));
        let city = format!("x{}", random.u32(..));
        match (new.filter(|_| random.bool()), random.bool()) {
            (None, true) => {
                run(old, &format!("UPDATE customers SET city = '{city}' WHERE id = {customer}"));
                for (_, of) in self.orders.values_mut().filter(|(it, _)| *it == customer) {
                    of.clone_from(&city);
                }
                self.customers.insert(customer, city);
            }
            (None, false) => {
                let id = 1001 + i64::try_from(self.orders.len()).expect("few");
                run(old, &format!("INSERT INTO orders VALUES ({id}, {customer})"));
                self.orders.insert(id, (customer, self.customers[&customer].clone()));
            }
            (Some(new), _) => {
                run(new, &format!("UPDATE orders SET city = '{city}' WHERE id = {order}"));
                let (customer, of) = self.orders.get_mut(&order).expect("an order");
                *of = city;
                let customer = *customer;
                self.customers.insert(customer, self.of(customer));
            }
        }
    }

    fn check(&self, old: &mut Client, new: &mut Client, filled: bool) {
        if filled {
            same(&pairs(old, "SELECT id, city FROM customers"), &self.customers);
            let orders: BTreeMap<i64, String> =
                self.orders.iter().map(|(id, (_, city))| (*id, city.clone())).collect();
            same(&pairs(new, "SELECT id, city FROM orders"), &orders);
        }
    }
}

#[test]
fn a_column_moves_to_another_table_while_both_shapes_are_written() {
    let city = |n: i64| if n % 3 > 0 { format!("c{n}") } else { "~".to_owned() };
    for contract in [true, false] {
        let order = |n: i64| (n, (n % 100 + 1, city(n % 100 + 1)));
        let mut moved = Move {
            orders: (1..=1000).map(order).collect(),
            customers: (1..=100).map(|n| (n, city(n))).collect(),
        };
        play(ORDERS, MOVE, contract, &mut moved);
    }
}
