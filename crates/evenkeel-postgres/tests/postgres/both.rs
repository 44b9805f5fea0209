//! Every kind of change under random reads and writes through both shapes, beside a model of what
//! each shape must show, in every phase and on both ways out.

use std::collections::BTreeMap;

use evenkeel_postgres::name::Name;
use postgres::{Client, SimpleQueryMessage};

use crate::rig::{Database, told};

/// A row as a shape shows it: columns by name, values as texts.
type Row = BTreeMap<&'static str, Option<String>>;

/// A change, and what it means for one row.
struct Change {
    /// The tables before, with their rows.
    before: &'static str,
    migration: &'static str,
    /// The table, as the old and as the new shape call it. Both have a column `id`.
    table: (&'static str, &'static str),
    /// Columns that both have, by both names, and what is written into them.
    both: &'static [(&'static str, &'static str, &'static [Option<&'static str>])],
    /// Columns that only the old shape has.
    old: &'static [(&'static str, &'static [Option<&'static str>])],
    /// Columns that only the new shape has.
    new: &'static [(&'static str, &'static [Option<&'static str>])],
    /// Columns of the old shape that the new ones are filled from.
    sources: &'static [&'static str],
    /// What fills the new columns, given a row of the old shape.
    up: fn(&Row) -> Row,
    /// What fills the old columns, given a row of the new shape.
    down: fn(&Row) -> Row,
}

/// What both shapes must show of one row.
#[derive(Debug, Clone, Default)]
struct Model {
    old: Row,
    new: Row,
}

fn text(it: &str) -> Option<String> {
    Some(it.to_owned())
}

/// The value of a column, or the empty text.
fn of(row: &Row, column: &str) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

impl Change {
    /// The values of columns that both shapes have, taken from one to the other.
    fn shared(&self, from: &Row, to_new: bool) -> Row {
        let pairs = self.both.iter().map(|(old, new, _)| (*old, *new)).chain([("id", "id")]);
        pairs
            .map(|(old, new)| if to_new { (old, new) } else { (new, old) })
            .map(|(from_name, to_name)| (to_name, from[from_name].clone()))
            .collect()
    }

    /// Writes through the old shape.
    fn write_old(&self, model: &mut Model, set: &Row, inserted: bool) {
        let before = model.old.clone();
        model.old.extend(set.clone());
        let mut new = model.new.clone();
        new.extend(self.shared(&model.old, true));
        let moved = self.sources.iter().any(|it| before.get(it) != model.old.get(it));
        if inserted || moved {
            new.extend((self.up)(&model.old));
        }
        model.new = new;
    }

    /// Writes through the new shape.
    fn write_new(&self, model: &mut Model, set: &Row, inserted: bool) {
        let before = model.new.clone();
        model.new.extend(set.clone());
        let mut old = model.old.clone();
        old.extend(self.shared(&model.new, false));
        let named = self.new.iter().any(|(it, _)| set.contains_key(it));
        let moved = self.new.iter().any(|(it, _)| before.get(it) != model.new.get(it));
        if inserted || moved || named {
            old.extend((self.down)(&model.new));
        }
        model.old = old;
    }
}

struct Play<'a> {
    change: &'a Change,
    random: fastrand::Rng,
    rows: BTreeMap<i64, Model>,
    next: i64,
}

fn literal(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |it| format!("'{}'", it.replace('\'', "''")))
}

impl Play<'_> {
    /// Columns of one side with what may be written into them.
    fn columns(&self, new: bool) -> Vec<(&'static str, &'static [Option<&'static str>])> {
        let both = self
            .change
            .both
            .iter()
            .map(|(old, renamed, values)| (if new { *renamed } else { *old }, *values));
        let own = if new { self.change.new } else { self.change.old };
        both.chain(own.iter().copied()).collect()
    }

    fn table(&self, new: bool) -> &'static str {
        if new { self.change.table.1 } else { self.change.table.0 }
    }

    /// One random write through one of the shapes.
    fn write(&mut self, client: &mut Client, new: bool) {
        let table = self.table(new);
        let columns = self.columns(new);
        let known: Vec<i64> = self.rows.keys().copied().collect();
        let what = if known.is_empty() { 0 } else { self.random.u8(0..10) };
        match what {
            0..3 => {
                let id = self.next;
                self.next += 1;
                let mut set: Row = columns
                    .iter()
                    .map(|(name, values)| {
                        (*name, self.random.choice(*values).expect("some values"))
                    })
                    .map(|(name, value)| (name, value.map(str::to_owned)))
                    .collect();
                set.insert("id", text(&id.to_string()));
                let names: Vec<&str> = set.keys().copied().collect();
                let values: Vec<String> = set.values().map(|it| literal(it.as_deref())).collect();
                run(
                    client,
                    &format!(
                        "INSERT INTO {table} ({}) VALUES ({})",
                        names.join(", "),
                        values.join(", ")
                    ),
                );
                let mut model = Model::default();
                self.apply(&mut model, &set, new, true);
                self.rows.insert(id, model);
            }
            3 => {
                let id = self.random.choice(known).expect("a row");
                run(client, &format!("DELETE FROM {table} WHERE id = {id}"));
                self.rows.remove(&id);
            }
            _ => {
                let id = self.random.choice(known).expect("a row");
                let mut set = Row::new();
                for (name, values) in &columns {
                    if self.random.u8(0..3) == 0 {
                        let value = self.random.choice(*values).expect("some values");
                        set.insert(name, value.map(str::to_owned));
                    }
                }
                if set.is_empty() {
                    return;
                }
                let assignments: Vec<String> = set
                    .iter()
                    .map(|(name, it)| format!("{name} = {}", literal(it.as_deref())))
                    .collect();
                run(
                    client,
                    &format!("UPDATE {table} SET {} WHERE id = {id}", assignments.join(", ")),
                );
                let mut model = self.rows[&id].clone();
                self.apply(&mut model, &set, new, false);
                self.rows.insert(id, model);
            }
        }
    }

    fn apply(&self, model: &mut Model, set: &Row, new: bool, inserted: bool) {
        if new {
            self.change.write_new(model, set, inserted);
        } else {
            self.change.write_old(model, set, inserted);
        }
    }

    /// Compares all rows of a shape with the model. Before a backfill is done, the new columns of
    /// rows that nobody wrote may be empty.
    fn look(&self, client: &mut Client, new: bool, filled: bool, when: &str) {
        let names: Vec<&str> =
            std::iter::once("id").chain(self.columns(new).iter().map(|(name, _)| *name)).collect();
        let query = format!("SELECT {} FROM {} ORDER BY id", names.join(", "), self.table(new));
        let seen: Vec<Row> = run(client, &query)
            .into_iter()
            .map(|cells| names.iter().copied().zip(cells).collect())
            .collect();
        let expected: Vec<Row> = self
            .rows
            .values()
            .map(|model| {
                let row = if new { &model.new } else { &model.old };
                names.iter().map(|name| (*name, row.get(name).cloned().flatten())).collect()
            })
            .collect();
        assert_eq!(seen.len(), expected.len(), "{when}: rows through new: {new}");
        for (seen, expected) in seen.iter().zip(&expected) {
            for (name, value) in expected {
                let own = self.change.new.iter().any(|(it, _)| it == name);
                if seen[name] != *value && !(new && own && !filled && seen[name].is_none()) {
                    panic!("{when}, through new: {new}: {name} of {seen:?} should be {value:?}");
                }
            }
        }
    }
}

/// Runs a statement; gives its rows.
fn run(client: &mut Client, statement: &str) -> Vec<Vec<Option<String>>> {
    let messages = client
        .simple_query(statement)
        .unwrap_or_else(|error| panic!("{statement}: {}", told(&error)));
    let mut rows = Vec::new();
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        }
    }
    rows
}

/// How many different plays there are of each change; `EVENKEEL_SEEDS` says otherwise.
fn seeds() -> u64 {
    std::env::var("EVENKEEL_SEEDS").ok().and_then(|it| it.parse().ok()).unwrap_or(2)
}

/// Plays a change through, with many random writes in each phase, and looks at everything.
fn check(change: &Change) {
    for contract in [true, false] {
        for seed in 0..seeds() {
            let Some(database) = Database::new() else { return };
            play(change, &database, contract, seed);
        }
    }
    // The newest server is the last.
    if let Some(database) = Database::each().into_iter().skip(1).last() {
        play(change, &database, true, 0);
    }
}

fn play(change: &Change, database: &Database, contract: bool, seed: u64) {
    let mut old = database.with(change.before);
    let mut play =
        Play { change, random: fastrand::Rng::with_seed(seed), rows: BTreeMap::new(), next: 1 };
    let model = |play: &mut Play<'_>| play.next;
    for _ in 0..40 {
        play.write(&mut old, false);
    }
    play.look(&mut old, false, true, "before");
    let written = model(&mut play);
    assert!(written > 1, "seed {seed} writes something");

    let plan = database.plan(change.migration);
    let mut executor = database.executor();
    let ok = |done: Result<(), evenkeel_postgres::execute::Failed>, what: &str| {
        done.unwrap_or_else(|error| panic!("{what}, seed {seed}: {}", told(&error)));
    };
    ok(executor.expand(&plan), "expand");
    let mut new = database.through(&plan.views);
    for phase in ["expanded", "filling", "filled", "ready"] {
        let when = format!("{phase}, seed {seed}");
        let filled = phase != "expanded" && phase != "filling";
        for _ in 0..40 {
            let through_new = play.random.bool();
            let client = if through_new { &mut new } else { &mut old };
            play.write(client, through_new);
            play.look(&mut old, false, filled, &when);
            play.look(&mut new, true, filled, &when);
        }
        match phase {
            // A backfill that is told to stop after its first piece, and goes on later.
            "expanded" => ok(executor.fill(&plan, &mut |_| false).map(drop), "fill"),
            "filling" => ok(executor.fill(&plan, &mut |_| true).map(drop), "fill"),
            "filled" => ok(executor.tighten(&plan), "tighten"),
            _ => {}
        }
    }
    if contract {
        ok(executor.contract(&plan), "contract");
        for _ in 0..40 {
            play.write(&mut new, true);
        }
        play.look(&mut new, true, true, "contracted");
        // The table itself has the new shape now.
        let mut plain = database.connect();
        for _ in 0..20 {
            play.write(&mut plain, true);
        }
        play.look(&mut plain, true, true, "contracted, the table");
    } else {
        ok(executor.undo(&plan), "undo");
        for _ in 0..40 {
            play.write(&mut old, false);
        }
        play.look(&mut old, false, true, "undone");
    }
    leaves_nothing(database, &plan.views, contract);
}

/// Nothing of ours is left in the schema, whichever way it ended.
fn leaves_nothing(database: &Database, views: &Name, contract: bool) {
    let mut client = database.connect();
    let left = run(
        &mut client,
        "SELECT attname::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
         WHERE attname LIKE '\\_ek%' AND NOT attisdropped AND c.relkind IN ('r', 'v')
         UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '~evenkeel%'
         UNION ALL SELECT relname::text FROM pg_class WHERE relname LIKE '\\_ek%'
         UNION ALL SELECT conname::text FROM pg_constraint WHERE conname LIKE '\\_ek%'
         UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'evenkeel'::regnamespace",
    );
    assert!(left.is_empty(), "left behind: {left:?}");
    let schema = run(
        &mut client,
        &format!("SELECT 1 FROM pg_namespace WHERE nspname = '{}'", views.as_str()),
    );
    assert_eq!(schema.len(), usize::from(contract), "the views of the new revision");
}

const NUMBERS: &[Option<&str>] = &[Some("0"), Some("7"), Some("41"), Some("-3"), Some("2000000")];
const NOTES: &[Option<&str>] = &[None, Some("a"), Some("b c"), Some("d")];

fn nothing(_: &Row) -> Row {
    Row::new()
}

#[test]
fn a_number_gets_wider() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, cents int NOT NULL DEFAULT 5, note text);
                 CREATE INDEX orders_cents ON orders (cents) WHERE cents > 3;
                 ALTER TABLE orders ADD CHECK (cents > -100)",
        migration: "ALTER TABLE orders ALTER cents TYPE bigint",
        table: ("orders", "orders"),
        both: &[("note", "note", NOTES)],
        old: &[("cents", NUMBERS)],
        new: &[("cents", NUMBERS)],
        sources: &["cents"],
        up: |old| Row::from([("cents", old["cents"].clone())]),
        down: |new| Row::from([("cents", new["cents"].clone())]),
    });
}

#[test]
fn a_nullable_number_becomes_a_text_and_is_renamed() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, cents int UNIQUE, note text)",
        migration: "ALTER TABLE orders ALTER cents TYPE text USING cents::text; -- down: cents::int
                    ALTER TABLE orders RENAME note TO remark;
                    ALTER TABLE orders RENAME cents TO amount",
        table: ("orders", "orders"),
        both: &[("note", "remark", NOTES)],
        old: &[("cents", &[None])],
        new: &[("amount", &[None])],
        sources: &["cents"],
        up: |old| Row::from([("amount", old["cents"].clone())]),
        down: |new| Row::from([("cents", new["amount"].clone())]),
    });
}

#[test]
fn a_column_that_must_not_be_null_is_filled_from_another() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, note text)",
        migration: "ALTER TABLE orders ADD region text NOT NULL
                        -- up: CASE WHEN customer > 5 THEN 'north' ELSE 'south' END
                    ;",
        table: ("orders", "orders"),
        both: &[("customer", "customer", NUMBERS), ("note", "note", NOTES)],
        old: &[],
        new: &[("region", &[Some("east"), Some("west")])],
        sources: &["customer"],
        up: |old| {
            let customer: i64 = of(old, "customer").parse().expect("a number");
            Row::from([("region", text(if customer > 5 { "north" } else { "south" }))])
        },
        down: nothing,
    });
}

#[test]
fn a_column_that_may_be_null_is_filled_from_another() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, customer int, note text)",
        migration: "-- up: customer * 2
                    ALTER TABLE orders ADD COLUMN twice int",
        table: ("orders", "orders"),
        both: &[("customer", "customer", &[None, Some("1"), Some("30")]), ("note", "note", NOTES)],
        old: &[],
        new: &[("twice", &[None, Some("5")])],
        sources: &["customer"],
        up: |old| {
            let customer = old["customer"].as_ref().and_then(|it| it.parse::<i64>().ok());
            Row::from([("twice", customer.map(|it| (it * 2).to_string()))])
        },
        down: nothing,
    });
}

#[test]
fn a_name_is_split_in_two() {
    const NAMES: &[Option<&str>] = &[Some("Ada"), Some("Bo"), Some("Cy")];
    check(&Change {
        before: "CREATE TABLE people (id int PRIMARY KEY, full_name text NOT NULL, note text);
                 CREATE INDEX people_name ON people (lower(full_name))",
        migration: "ALTER TABLE people
                        ADD COLUMN first_name text NOT NULL, -- up: split_part(full_name, ' ', 1)
                        ADD COLUMN last_name text NOT NULL,  -- up: split_part(full_name, ' ', 2)
                        DROP COLUMN full_name;               -- down: first_name || ' ' || last_name
                    CREATE INDEX people_last ON people (last_name, first_name)",
        table: ("people", "people"),
        both: &[("note", "note", NOTES)],
        old: &[("full_name", &[Some("Ada Lo"), Some("Bo Ek"), Some("Cy Do")])],
        new: &[("first_name", NAMES), ("last_name", NAMES)],
        sources: &["full_name"],
        up: |old| {
            let name = of(old, "full_name");
            let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
            Row::from([("first_name", text(first)), ("last_name", text(last))])
        },
        down: |new| {
            let whole = format!("{} {}", of(new, "first_name"), of(new, "last_name"));
            Row::from([("full_name", text(&whole))])
        },
    });
}

#[test]
fn two_columns_are_merged_into_one() {
    const NAMES: &[Option<&str>] = &[Some("Ada"), Some("Bo"), Some("Cy")];
    check(&Change {
        before: "CREATE TABLE people (id int PRIMARY KEY, first_name text NOT NULL,
                     last_name text NOT NULL, note text, UNIQUE (id, last_name))",
        migration: "ALTER TABLE people
                        ADD COLUMN full_name text NOT NULL, -- up: first_name || ' ' || last_name
                        DROP COLUMN first_name, -- down: split_part(full_name, ' ', 1)
                        DROP COLUMN last_name   -- down: split_part(full_name, ' ', 2)
                    ;",
        table: ("people", "people"),
        both: &[("note", "note", NOTES)],
        old: &[("first_name", NAMES), ("last_name", NAMES)],
        new: &[("full_name", &[Some("Ada Lo"), Some("Bo Ek"), Some("Cy Do")])],
        sources: &["first_name", "last_name"],
        up: |old| {
            let whole = format!("{} {}", of(old, "first_name"), of(old, "last_name"));
            Row::from([("full_name", text(&whole))])
        },
        down: |new| {
            let name = of(new, "full_name");
            let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
            Row::from([("first_name", text(first)), ("last_name", text(last))])
        },
    });
}

#[test]
fn null_is_refused_from_now_on() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, note text, mark text)",
        migration: "ALTER TABLE orders ALTER note SET NOT NULL -- up: coalesce(note, 'none')
                    ;",
        table: ("orders", "orders"),
        both: &[("mark", "mark", NOTES)],
        old: &[("note", NOTES)],
        new: &[("note", &[Some("x"), Some("y")])],
        sources: &["note"],
        up: |old| Row::from([("note", old["note"].clone().or_else(|| text("none")))]),
        down: |new| Row::from([("note", new["note"].clone())]),
    });
}

#[test]
fn null_is_allowed_from_now_on() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, note text, mark text NOT NULL)",
        migration: "ALTER TABLE orders
                        ALTER mark DROP NOT NULL -- down: coalesce(mark, '?')
                    ;",
        table: ("orders", "orders"),
        both: &[("note", "note", NOTES)],
        old: &[("mark", &[Some("m"), Some("n")])],
        new: &[("mark", &[None, Some("o")])],
        sources: &["mark"],
        up: |old| Row::from([("mark", old["mark"].clone())]),
        down: |new| Row::from([("mark", new["mark"].clone().or_else(|| text("?")))]),
    });
}

#[test]
fn tables_and_columns_get_other_names_and_others_go() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, a int NOT NULL, b text, gone text DEFAULT 'g')",
        migration: "ALTER TABLE orders RENAME TO purchases;
                    ALTER TABLE purchases RENAME COLUMN a TO c;
                    ALTER TABLE purchases RENAME COLUMN b TO a;
                    ALTER TABLE purchases RENAME COLUMN c TO b;
                    ALTER TABLE purchases DROP COLUMN gone;
                    ALTER TABLE purchases ADD CONSTRAINT b_is_small CHECK (b < 3000000);
                    CREATE UNIQUE INDEX purchases_b ON purchases (b, id)",
        table: ("orders", "purchases"),
        both: &[("a", "b", NUMBERS), ("b", "a", NOTES)],
        old: &[],
        new: &[],
        sources: &[],
        up: nothing,
        down: nothing,
    });
}

#[test]
fn a_new_column_has_a_default_that_costs_nothing() {
    check(&Change {
        before: "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        migration: "ALTER TABLE orders ADD state text NOT NULL DEFAULT 'open';
                    ALTER TABLE orders ALTER note SET DEFAULT 'none'",
        table: ("orders", "orders"),
        both: &[("note", "note", NOTES)],
        old: &[],
        new: &[("state", &[Some("shut"), Some("open")])],
        sources: &[],
        up: |_| Row::from([("state", text("open"))]),
        down: nothing,
    });
}
