//! Those who change schemas: each database has a thread of its own, which brings its schema to where
//! it is wanted and says how far it is. The engine never waits for one.
//!
//! Nothing is decided here. What is done is written down in the database by whoever does it, so a
//! thread that ends with its process is followed by one that goes on where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use evenkeel_kernel::model::DatabaseName;
use evenkeel_kernel::want;
use evenkeel_kernel::world::{Doing, Filling, Schema, SchemaTarget, Trouble};
use evenkeel_local::secret;
use evenkeel_postgres::connect::connect;
use evenkeel_postgres::execute::{
    Driver, Executor, Failed, Filled, Session, Stage, look, waits_for,
};
use evenkeel_postgres::name::Name;
use evenkeel_postgres::plan::Plan;

use crate::log::chain;
use crate::orders::Orders;

/// How long a thread waits before it tries again what did not work.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the engine is told of a backfill.
const TELL: Duration = Duration::from_millis(250);

/// How often is looked whom an index or a rule waits for.
const WATCH: Duration = Duration::from_secs(1);

/// Everybody who changes a schema.
#[derive(Debug)]
pub(crate) struct Schemas {
    home: PathBuf,
    orders: Orders,
    driver: Driver,
    workers: BTreeMap<DatabaseName, Arc<Desk>>,
}

/// Where a thread and the engine meet.
#[derive(Debug, Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    wanted: Option<want::Schema>,
    seen: Schema,
}

impl Schemas {
    /// Nobody changes anything yet. `orders` is told when one gets on; databases are told who `driver`
    /// is.
    pub(crate) fn new(home: PathBuf, orders: Orders, driver: Driver) -> Self {
        Self { home, orders, driver, workers: BTreeMap::new() }
    }

    /// Has exactly these schemas brought to where they are wanted.
    pub(crate) fn make_true(&mut self, wanted: Vec<want::Schema>) {
        for (name, desk) in &self.workers {
            if !wanted.iter().any(|it| it.database == *name) {
                desk.want(None);
            }
        }
        for schema in wanted {
            let name = schema.database.clone();
            if !self.workers.contains_key(&name) {
                let desk = Arc::new(Desk::default());
                if let Err(error) = self.start(&name, &desk) {
                    crate::log::line(&format!("nobody could be sent to database {name}: {error}"));
                    continue;
                }
                self.workers.insert(name.clone(), desk);
            }
            if let Some(desk) = self.workers.get(&name) {
                desk.want(Some(schema));
            }
        }
    }

    /// How far each is.
    pub(crate) fn seen(&self) -> BTreeMap<DatabaseName, Schema> {
        self.workers.iter().map(|(name, it)| (name.clone(), it.lock().seen.clone())).collect()
    }

    fn start(&self, name: &DatabaseName, desk: &Arc<Desk>) -> std::io::Result<()> {
        let worker = Worker {
            home: self.home.clone(),
            orders: self.orders.clone(),
            driver: self.driver.clone(),
            desk: Arc::clone(desk),
        };
        let name = format!("schema {name}");
        std::thread::Builder::new().name(name).spawn(move || worker.run()).map(drop)
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Papers> {
        // Every change of it is complete before anything that might panic.
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, wanted: Option<want::Schema>) {
        let mut papers = self.lock();
        if papers.wanted == wanted {
            return;
        }
        let revision = wanted.as_ref().map(|it| it.change.revision);
        if revision.is_some_and(|it| it != papers.seen.revision) {
            papers.seen = Schema { revision: revision.unwrap_or_default(), ..Schema::default() };
        }
        papers.wanted = wanted;
        self.changed.notify_all();
    }
}

/// One thread.
#[derive(Clone)]
struct Worker {
    home: PathBuf,
    orders: Orders,
    driver: Driver,
    desk: Arc<Desk>,
}

impl Worker {
    fn run(self) {
        loop {
            let (schema, target) = self.next();
            let done = self.bring(&schema, target);
            self.say(|seen| match done {
                Ok(()) => {
                    seen.done = Some(target);
                    (seen.doing, seen.trouble) = (None, None);
                }
                Err(trouble) => seen.trouble = trouble,
            });
            let papers = self.desk.lock();
            let same = |papers: &mut Papers| papers.wanted.as_ref() == Some(&schema);
            // What did not work is tried again after a while, or as soon as anything else is wanted.
            if papers.seen.done != Some(target) {
                drop(self.desk.changed.wait_timeout_while(papers, AGAIN, same));
            }
        }
    }

    /// Waits until something is to be done.
    fn next(&self) -> (want::Schema, SchemaTarget) {
        let mut papers = self.desk.lock();
        loop {
            if let Some(schema) = &papers.wanted
                && let Some(target) = schema.target
                && papers.seen.done != Some(target)
            {
                if !(schema.paused && target == SchemaTarget::Ready) {
                    return (schema.clone(), target);
                }
                papers.seen.doing = papers.seen.doing.map(Doing::paused);
                self.orders.changed();
            }
            papers = self.desk.changed.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether this is what is wanted still.
    fn is_wanted(&self, schema: &want::Schema) -> bool {
        self.desk.lock().wanted.as_ref() == Some(schema)
    }

    fn say(&self, change: impl FnOnce(&mut Schema)) {
        change(&mut self.desk.lock().seen);
        self.orders.changed();
    }

    /// Brings a schema to its target. Without trouble there was only something else to do.
    fn bring(&self, schema: &want::Schema, target: SchemaTarget) -> Result<(), Option<Trouble>> {
        let passing = |why: String| Some(Trouble { why, is_final: false });
        let plan: Plan = serde_json::from_str(&schema.change.script).map_err(|error| {
            Some(Trouble { why: format!("its plan cannot be read: {error}"), is_final: true })
        })?;
        let address = address(&self.home, schema).map_err(passing)?;
        let client = connect(&address, "evenkeel").map_err(|error| passing(chain(&error)))?;
        let hears = self.clone();
        let mut session = Session::new(client).waits_told_to(Box::new(move |what| {
            hears.trouble(what);
        }));
        let name = Name::new(&schema.schema);
        if target == SchemaTarget::Undone {
            // What was never begun is undone, also where this role may do nothing.
            let ledger = look(&mut session, &name).map_err(|error| Some(trouble(&error)))?;
            let begun = ledger.entries.iter().find(|it| it.revision == plan.revision);
            if begun.is_none_or(|it| it.stage == Stage::Undone) {
                return Ok(());
            }
        }
        let mut executor = Executor::driven_by(session, &name, &self.driver)
            .map_err(|error| Some(trouble(&error)))?;
        self.work(&mut executor, &plan, schema, target, &address).map_err(|failed| match failed {
            Stopped::Failed(error) => Some(trouble(&error)),
            Stopped::Waiting(why) => passing(why),
            Stopped::Otherwise => None,
        })
    }

    fn work(
        &self,
        executor: &mut Executor,
        plan: &Plan,
        schema: &want::Schema,
        target: SchemaTarget,
        address: &str,
    ) -> Result<(), Stopped> {
        if target == SchemaTarget::Undone {
            self.doing(Doing::Undoing);
            return Ok(executor.undo(plan)?);
        }
        self.doing(Doing::Expanding);
        executor.expand(plan)?;
        let mut told: Option<Instant> = None;
        let whole = executor.fill(plan, &mut |filled| {
            if told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(Instant::now());
                self.doing(Doing::Filling(filling(filled)));
            }
            self.is_wanted(schema)
        })?;
        // An index that is being built is built to its end, and none is begun.
        if !whole || !self.is_wanted(schema) {
            return Err(Stopped::Otherwise);
        }
        self.doing(Doing::Tightening);
        self.tighten(executor, plan, address)?;
        self.reached(SchemaTarget::Ready);
        if target == SchemaTarget::Ready {
            return Ok(());
        }
        let contracted = executor.stage(plan)? == Some(Stage::Contracted);
        let left = if contracted { Vec::new() } else { executor.stragglers(plan)? };
        if !left.is_empty() {
            return Err(Stopped::Waiting(format!(
                "connections of the old code are still there: {}",
                left.join(", ")
            )));
        }
        self.doing(Doing::Contracting);
        Ok(executor.contract(plan)?)
    }

    /// Builds indexes and checks rules, which wait for others within one statement; so another
    /// connection looks whom they wait for.
    fn tighten(&self, executor: &mut Executor, plan: &Plan, address: &str) -> Result<(), Failed> {
        let pid = executor.pid()?;
        std::thread::scope(|scope| {
            let (end, ended) = mpsc::channel();
            scope.spawn(move || self.watch(address, pid, &ended));
            let done = executor.tighten(plan);
            // Nobody looks any more.
            drop(end);
            done
        })
    }

    /// Tells whom a process of the server waits for, until nobody asks.
    fn watch(&self, address: &str, pid: i64, ended: &mpsc::Receiver<()>) {
        let mut session = None;
        let mut waited = false;
        while ended.recv_timeout(WATCH) == Err(mpsc::RecvTimeoutError::Timeout) {
            if session.is_none() {
                session = connect(address, "evenkeel").ok().map(Session::new);
            }
            let Some(beside) = &mut session else { continue };
            match waits_for(beside, pid) {
                Ok(who) if who.is_some() || waited => {
                    waited = who.is_some();
                    let what = who.map(|it| format!("an index or a rule waits for {it}"));
                    self.trouble(what.as_deref());
                }
                Ok(_works) => {}
                Err(_lost) => session = None,
            }
        }
    }

    fn doing(&self, what: Doing) {
        self.say(|seen| {
            seen.doing = Some(what);
            // What is only begun again may meet the same.
            match what {
                Doing::Filling(_) | Doing::Paused(_) | Doing::Tightening => seen.trouble = None,
                Doing::Expanding | Doing::Contracting | Doing::Undoing => {}
            }
        });
    }

    /// What is waited for, which is over when there is nothing.
    fn trouble(&self, what: Option<&str>) {
        self.say(|seen| {
            seen.trouble = what.map(|why| Trouble { why: why.to_owned(), is_final: false });
        });
    }

    fn reached(&self, target: SchemaTarget) {
        self.say(|seen| {
            seen.done = seen.done.filter(|it| *it != SchemaTarget::Undone).max(Some(target));
        });
    }
}

/// Why work ended before its target.
enum Stopped {
    Failed(Failed),
    /// Something outside has to happen first.
    Waiting(String),
    /// Something else is wanted by now.
    Otherwise,
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// The address of who owns a database, kept since the change was handed in.
fn address(home: &Path, schema: &want::Schema) -> Result<String, String> {
    let digest = schema.url.digest.as_ref().ok_or("its address was not read")?;
    let content = secret::content(home, &schema.url.from.to_string(), digest)?;
    String::from_utf8(content).map_err(|_private| "its address is not UTF-8 text".to_owned())
}

/// How far a backfill is, for people.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a part up to one in thousandths, a rate and a time, for people"
)]
fn filling(filled: &Filled) -> Filling {
    let left = (filled.rate > 0.0 && filled.part > 0.0).then(|| {
        let rest = filled.rows as f64 * (1.0 - filled.part) / filled.part;
        Duration::from_secs((rest / filled.rate) as u64)
    });
    Filling {
        rows: filled.rows,
        of: filled.of.max(filled.rows),
        permille: (filled.part * 1000.0) as u16,
        rate: Some(filled.rate as u64),
        left,
    }
}

fn trouble(failed: &Failed) -> Trouble {
    Trouble { why: chain(failed), is_final: failed.is_final() }
}
