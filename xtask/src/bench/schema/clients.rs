//! Clients that ask at given times whether they are answered or not, and what became of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::Type;
use postgres::{Client, Statement};

use super::super::process;
use super::engine;
use super::server::connect;

/// How long a client waits before it tries again to connect.
const RECONNECT: Duration = Duration::from_millis(50);

/// What a shape of the table is asked: `$1` is an id or a customer, `$2` a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Questions {
    pub(super) select: &'static str,
    pub(super) update: &'static str,
    pub(super) insert: &'static str,
}

/// One request.
#[derive(Debug)]
pub(super) struct Sample {
    /// When it should have been asked.
    pub(super) due: Instant,
    /// When it was answered.
    pub(super) end: Instant,
    /// What the database said, if it was not done.
    pub(super) failed: Option<String>,
}

/// Clients of one shape at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

/// How clients ask.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) questions: Questions,
    pub(super) search_path: String,
    /// Ids are up to this.
    pub(super) rows: i32,
    pub(super) connections: u32,
    /// Requests per second of all of them.
    pub(super) rate: u32,
}

impl Clients {
    /// Starts them.
    pub(super) fn new(server: &Path, load: &Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) * load.connections / load.rate;
        let begin = Instant::now() + Duration::from_millis(200);
        let threads = (0..load.connections)
            .map(|number| {
                let first = begin + interval * number / load.connections;
                let (stop, load, path) = (Arc::clone(&stop), load.clone(), server.to_owned());
                thread::spawn(move || One { path, load, client: None }.run(first, interval, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Lets them finish, and gives what they saw.
    pub(super) fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|it| it.join().unwrap_or_default()).collect()
    }
}

/// One client.
struct One {
    path: PathBuf,
    load: Load,
    client: Option<Connected>,
}

struct Connected {
    client: Client,
    select: Statement,
    update: Statement,
    insert: Statement,
}

impl One {
    fn run(mut self, first: Instant, interval: Duration, stop: &AtomicBool) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut due = first;
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let failed = self.ask().err();
            if failed.is_some() && self.client.is_none() {
                thread::sleep(RECONNECT);
            }
            samples.push(Sample { due, end: Instant::now(), failed });
            due += interval;
        }
        samples
    }

    fn ask(&mut self) -> Result<(), String> {
        if self.client.is_none() {
            let connected = Connected::new(&self.path, &self.load);
            self.client = Some(connected.map_err(|error| told(&error))?);
        }
        let Some(it) = &mut self.client else { return Ok(()) };
        let done = it.ask(&self.load, fastrand::u32(0..100));
        done.map_err(|error| {
            // As pools do: a statement whose plan is of no use any more is prepared again.
            let stale = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
            if error.is_closed() || stale {
                self.client = None;
            }
            told(&error)
        })
    }
}

/// Writes by which it is known what one costs.
const WRITES: u32 = 3_000;

/// Processor time that a write costs the server through a shape: what clients write, one after the
/// other and without waiting for the disk.
pub(super) fn cost_of_write(server: &Path, load: &Load) -> anyhow::Result<Duration> {
    let mut it = Connected::new(server, load)?;
    it.client.batch_execute("SET synchronous_commit = off")?;
    let pid = engine::pid(&mut it.client)?;
    let before = process::cpu(pid);
    for _ in 0..WRITES {
        it.ask(load, fastrand::u32(50..100))?;
    }
    Ok(process::cpu(pid).saturating_sub(before) / WRITES)
}

impl Connected {
    /// One request: which one a number below 100 says.
    fn ask(&mut self, load: &Load, which: u32) -> Result<(), postgres::Error> {
        let (id, number) = (fastrand::i32(1..=load.rows), fastrand::i32(1..100_000));
        match which {
            0..50 => self.client.query(&self.select, &[&id]).map(drop),
            50..85 => self.client.execute(&self.update, &[&id, &number]).map(drop),
            _ => self.client.execute(&self.insert, &[&(id % 50_000), &number]).map(drop),
        }
    }

    fn new(path: &Path, load: &Load) -> Result<Self, postgres::Error> {
        let mut client = connect(path, &load.search_path)?;
        let select = client.prepare_typed(load.questions.select, &[Type::INT4])?;
        let both = [Type::INT4, Type::INT4];
        let update = client.prepare_typed(load.questions.update, &both)?;
        let insert = client.prepare_typed(load.questions.insert, &both)?;
        Ok(Self { client, select, update, insert })
    }
}

/// What the database said.
fn told(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |it| it.message().to_owned())
}
