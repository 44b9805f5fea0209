//! Changes of a table under load, beside plain SQL, a walk along the primary key and a second table.
//!
//! Each engine gets a fresh copy of the same filled database. Clients ask at given times through the
//! old shape all along, and through the new one once it is there; how long they wait is counted from
//! the time when they should have asked.

mod change;
mod clients;
mod copy;
mod engine;
mod server;
mod told;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postgres::Client;

use self::change::Change;
use self::clients::{Clients, Load, cost_of_write};
use self::copy::Copy;
use self::engine::{Engine, Ours, Plain, Walk};
use self::server::{Seed, Server};
use self::told::Outcome;
use super::process;

/// Requests per second and connections of each shape.
const OLD: (u32, u32) = (300, 6);
const NEW: (u32, u32) = (100, 4);
/// How long nothing is changed at first, both shapes are used, and the new one is used alone.
const QUIET: Duration = Duration::from_secs(6);
const BOTH: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(3);
/// How long the reader holds the table.
const READER: Duration = Duration::from_secs(8);

const USAGE: &str = "usage: cargo xtask bench schema [--rows N] [--reader] [--change wider|added|many] \
                     [--only ours|plain|walk|copy]";

/// What is measured.
struct Options {
    rows: u32,
    reader: bool,
    changes: Vec<Change>,
    only: Option<String>,
}

impl Options {
    fn read(words: &[&str]) -> anyhow::Result<Self> {
        let mut options =
            Self { rows: 1_000_000, reader: false, changes: Change::ALL.to_vec(), only: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--rows" => options.rows = value()?.replace(['_', ','], "").parse()?,
                "--reader" => options.reader = true,
                "--change" => {
                    let word = value()?;
                    options.changes.retain(|it| it.word() == *word);
                }
                "--only" => options.only = Some((*value()?).to_owned()),
                _ => bail!(USAGE),
            }
        }
        Ok(options)
    }
}

/// Runs it; `words` are its options.
pub(super) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::read(words)?;
    let Some(programs) = server::programs() else {
        println!("\nschema\n  not measured: it needs PostgreSQL (Debian has it)");
        return Ok(());
    };
    let began = Instant::now();
    let seed = Seed::new(programs, &change::seed(options.rows))?;
    println!(
        "\nschema: {} rows, {} + {} requests/s{}; filled in {:.0} s",
        options.rows,
        OLD.0,
        NEW.0,
        if options.reader { ", a reader holds the table for 8 s" } else { "" },
        began.elapsed().as_secs_f64()
    );
    for change in &options.changes {
        println!("\n  {}", change.said());
        told::head();
        for which in ["ours", "plain", "walk", "copy"] {
            if options.only.as_deref().is_some_and(|it| it != which) {
                continue;
            }
            let walked = change.walk();
            if which == "walk" && walked.is_none() {
                continue;
            }
            let server = seed.server()?;
            let engine: Box<dyn Engine> = match which {
                "ours" => Box::new(Ours::new(&server, *change)?),
                "plain" => Box::new(Plain::new(&server, *change)?),
                "copy" => Box::new(Copy::new(&server, *change)?),
                _ => Box::new(Walk::new(&server, *change, walked.context("it walks")?)?),
            };
            measure(&server, engine, *change, &options)?.tell();
        }
    }
    Ok(())
}

/// One engine, from before its change until after it.
fn measure(
    server: &Server,
    mut engine: Box<dyn Engine>,
    change: Change,
    options: &Options,
) -> anyhow::Result<Outcome> {
    let load_before = load_average();
    let mut look = server.connect("")?;
    // Everything is in memory, as in a database that is in use.
    look.batch_execute("SELECT count(meta) FROM orders; SELECT count(*) FROM orders WHERE id > 0")?;
    let pid = engine.pid()?;
    let load = |questions, search_path: &str, (rate, connections)| Load {
        questions,
        search_path: search_path.to_owned(),
        rows: i32::try_from(options.rows).unwrap_or(i32::MAX),
        connections,
        rate,
    };
    let mut phases = Vec::new();
    let mut phase = |name, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        let began = Instant::now();
        work()?;
        phases.push((name, began, Instant::now()));
        anyhow::Ok(())
    };
    let wait = |time: Duration| {
        move || {
            thread::sleep(time);
            Ok(())
        }
    };

    let old_load = load(change::OLD, "public", OLD);
    let new_load = engine.new_shape().map(|path| load(change.questions(), &path, NEW));
    let cost = |load: &Load| cost_of_write(server.path(), load);
    let mut writes = vec![cost(&old_load)?];
    let old = Clients::new(server.path(), &old_load);
    phase("quiet", &mut wait(QUIET))?;
    let before = Sizes::read(&mut look)?;
    let cpu = process::cpu(pid);
    let reader = options.reader.then(|| hold(server)).transpose()?;
    phase("expand", &mut || engine.expand())?;
    let begin = || new_load.as_ref().map(|load| Clients::new(server.path(), load));
    let mut new = if engine.is_whole_at_once() { begin() } else { None };
    let (wal, filling) = (Sizes::read(&mut look)?.wal, process::cpu(pid));
    phase("fill", &mut || engine.fill())?;
    let (filled_wal, filled) = (Sizes::read(&mut look)?.wal, process::cpu(pid));
    phase("tighten", &mut || engine.tighten())?;
    let worked = process::cpu(pid);
    if new.is_none() {
        new = begin();
    }
    phase("both", &mut wait(BOTH))?;
    let mut samples = old.stop();
    if let Some(new_load) = &new_load {
        writes.extend([cost(&old_load)?, cost(new_load)?]);
    }
    let disk = Sizes::read(&mut look)?.disk - before.disk;
    let idle = process::cpu(pid);
    phase("contract", &mut || engine.contract())?;
    let cpu = process::cpu(pid).saturating_sub(idle) + worked.saturating_sub(cpu);
    phase("after", &mut wait(AFTER))?;
    samples.extend(new.map(Clients::stop).unwrap_or_default());
    let after = Sizes::read(&mut look)?;
    if let Some(reader) = reader {
        drop(reader.join());
    }
    Ok(Outcome {
        name: engine.name(),
        rows: options.rows,
        phases,
        samples,
        cpu,
        cpu_filling: filled.saturating_sub(filling),
        wal: filled_wal - wal,
        hot: after.hot,
        table: (before.table, after.table),
        indexes: (before.indexes, after.indexes),
        disk: (before.table + before.indexes, before.table + before.indexes + disk),
        writes,
        held: engine.held(),
        load: (load_before, load_average()),
    })
}

/// What the server has written so far.
struct Sizes {
    wal: i64,
    table: i64,
    indexes: i64,
    disk: i64,
    /// The share of updates that needed no entry in an index.
    hot: f64,
}

impl Sizes {
    fn read(client: &mut Client) -> anyhow::Result<Self> {
        let row = client.query_one(
            "SELECT (pg_current_wal_lsn() - '0/0')::bigint, pg_relation_size('public.orders'),
                    pg_indexes_size('public.orders'),
                    (n_tup_hot_upd / greatest(n_tup_upd, 1)::float8),
                    pg_database_size(current_database())
             FROM pg_stat_user_tables WHERE relid = 'public.orders'::regclass",
            &[],
        )?;
        let (table, indexes) = (row.get(1), row.get(2));
        Ok(Self { wal: row.get(0), table, indexes, hot: row.get(3), disk: row.get(4) })
    }
}

/// Holds the table as a long report does; gives back once it is held.
fn hold(server: &Server) -> anyhow::Result<thread::JoinHandle<()>> {
    let mut client = server.connect("public")?;
    client.batch_execute("BEGIN; SELECT id FROM orders LIMIT 1")?;
    Ok(thread::spawn(move || {
        thread::sleep(READER);
        if let Err(error) = client.batch_execute("COMMIT") {
            println!("the reader ended by itself: {error}");
        }
    }))
}

fn load_average() -> String {
    let load = std::fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}
