//! Ways to change the table, each by one connection: Evenkeel's; plain SQL in one transaction; and a
//! walk along the primary key, as the tools that use views and row triggers do it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evenkeel_postgres::execute::{Executor, Session};
use evenkeel_postgres::name::Name;
use evenkeel_postgres::plan::{self, Plan};
use evenkeel_postgres::sql::{Grammar as _, Squawk};
use evenkeel_postgres::wanted::Wanted;
use evenkeel_postgres::{catalog, execute};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

use super::change::{COLUMNS, Change, Walked};
use super::server::Server;

/// What has to be done, in its order.
pub(super) trait Engine {
    fn name(&self) -> String;
    /// The process of its connection.
    fn pid(&mut self) -> anyhow::Result<u32>;
    /// Where the new shape is found while there are two, if there ever are.
    fn new_shape(&self) -> Option<String>;
    /// Whether rows that are not filled yet are there in the new shape.
    fn is_whole_at_once(&self) -> bool {
        true
    }
    fn expand(&mut self) -> anyhow::Result<()>;
    fn fill(&mut self) -> anyhow::Result<()>;
    fn tighten(&mut self) -> anyhow::Result<()>;
    fn contract(&mut self) -> anyhow::Result<()>;
    /// The longest time for which nobody could use the table.
    fn held(&self) -> Duration;
}

pub(super) fn pid(client: &mut Client) -> anyhow::Result<u32> {
    Ok(u32::try_from(client.query_one("SELECT pg_backend_pid()", &[])?.get::<_, i32>(0))?)
}

/// Evenkeel's.
pub(super) struct Ours {
    executor: Executor,
    plan: Plan,
    held: Arc<Mutex<Held>>,
}

/// How long locks were held at most, by the statements that are heard of: what locks is one message,
/// so it is no longer than from that to the next, if it was done. What it waited for the lock is in
/// it.
#[derive(Default)]
struct Held {
    since: Option<Instant>,
    longest: Duration,
}

impl Held {
    fn hears(&mut self, statement: &str) {
        let now = Instant::now();
        if let Some(since) = self.since.take()
            && statement != "ROLLBACK"
        {
            self.longest = self.longest.max(now - since);
        }
        let locks = ["LOCK TABLE", "ADD CONSTRAINT"].iter().any(|it| statement.contains(it));
        self.since = locks.then_some(now);
    }
}

impl Ours {
    pub(super) fn new(server: &Server, change: Change) -> anyhow::Result<Self> {
        let schema = Name::new("public");
        let now = catalog::read(&mut server.connect("")?, &schema, &Squawk)?;
        let text = |problems: Vec<evenkeel_postgres::problem::Problem>| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(all.join("\n"))
        };
        let (statements, problems) = Squawk.read("change.sql", &change.migration(), &schema);
        if !problems.is_empty() {
            return Err(text(problems));
        }
        let wanted = Wanted::after(&now, &statements, &Squawk).map_err(text)?;
        let plan = plan::derive(&now, &wanted, 1, None).map_err(text)?;
        let held = Arc::new(Mutex::new(Held::default()));
        let hears = Arc::clone(&held);
        let session = Session::new(server.connect("")?).heard_by(Box::new(move |statement| {
            hears.lock().unwrap_or_else(PoisonError::into_inner).hears(statement);
        }));
        Ok(Self { executor: Executor::new(session, &schema)?, plan, held })
    }
}

impl Engine for Ours {
    fn name(&self) -> String {
        "Evenkeel".to_owned()
    }

    fn pid(&mut self) -> anyhow::Result<u32> {
        pid(self.executor.session().client())
    }

    fn new_shape(&self) -> Option<String> {
        Some(format!("{}, public", self.plan.views))
    }

    fn expand(&mut self) -> anyhow::Result<()> {
        Ok(self.executor.expand(&self.plan)?)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut last = None;
        self.executor.fill(&self.plan, &mut |filled: &execute::Filled| {
            last = Some(filled.clone());
            true
        })?;
        if let Some(last) = last
            && last.duty < 1.0
        {
            println!("    it worked {:.0} % of the time in the end", last.duty * 100.0);
        }
        Ok(())
    }

    fn tighten(&mut self) -> anyhow::Result<()> {
        Ok(self.executor.tighten(&self.plan)?)
    }

    fn contract(&mut self) -> anyhow::Result<()> {
        Ok(self.executor.contract(&self.plan)?)
    }

    fn held(&self) -> Duration {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).longest
    }
}

/// Statements in one transaction that lock the table.
pub(super) struct Locking {
    pub(super) client: Client,
    pub(super) held: Duration,
}

impl Locking {
    pub(super) fn new(server: &Server) -> anyhow::Result<Self> {
        Ok(Self { client: server.connect("public")?, held: Duration::ZERO })
    }

    /// Runs statements in one transaction, and looks at the server's clock between lock and commit.
    pub(super) fn run(&mut self, before: &str, sql: &str) -> Result<(), postgres::Error> {
        let clock = "SELECT extract(epoch FROM clock_timestamp())";
        let message = format!(
            "BEGIN; {before} LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE; {clock}; {sql}; \
             COMMIT; {clock}"
        );
        let answers = match self.client.simple_query(&message) {
            Ok(answers) => answers,
            Err(error) => {
                self.client.batch_execute("ROLLBACK")?;
                return Err(error);
            }
        };
        let mut times = Vec::new();
        for answer in &answers {
            if let SimpleQueryMessage::Row(row) = answer {
                times.extend(row.get(0).and_then(|it| it.parse::<f64>().ok()));
            }
        }
        if let [from, to] = times[..] {
            self.held = self.held.max(Duration::from_secs_f64((to - from).max(0.0)));
        }
        Ok(())
    }
}

/// Plain SQL in one transaction: the whole change is what others call the fill.
pub(super) struct Plain {
    locking: Locking,
    change: Change,
}

impl Plain {
    pub(super) fn new(server: &Server, change: Change) -> anyhow::Result<Self> {
        Ok(Self { locking: Locking::new(server)?, change })
    }
}

impl Engine for Plain {
    fn name(&self) -> String {
        self.change.plain_name().to_owned()
    }

    fn pid(&mut self) -> anyhow::Result<u32> {
        pid(&mut self.locking.client)
    }

    fn new_shape(&self) -> Option<String> {
        None
    }

    fn expand(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        Ok(self.locking.run("", &self.change.plain())?)
    }

    fn tighten(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn contract(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn held(&self) -> Duration {
        self.locking.held
    }
}

/// A walk along the primary key: a row trigger each way, a column that marks what is not filled
/// yet, batches of 1,000, and each step a transaction of its own.
pub(super) struct Walk {
    locking: Locking,
    change: Change,
    walked: Walked,
}

/// Rows of a batch.
const BATCH: u32 = 1_000;
/// How long a step waits for its lock, how long others pass, and how often it is tried.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms';";
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const LOCK_TRIES: usize = 60;
/// The schema of its view.
const WALKED: &str = "walked";

/// Tries until the table is free.
pub(super) fn patiently(locking: &mut Locking, sql: &str) -> anyhow::Result<()> {
    for _ in 0..LOCK_TRIES {
        match locking.run(LOCK_TIMEOUT, sql) {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                thread::sleep(LOCK_PAUSE);
            }
            done => return Ok(done?),
        }
    }
    anyhow::bail!("the table stayed locked")
}

impl Walk {
    pub(super) fn new(server: &Server, change: Change, walked: Walked) -> anyhow::Result<Self> {
        Ok(Self { locking: Locking::new(server)?, change, walked })
    }

    fn patiently(&mut self, sql: &str) -> anyhow::Result<()> {
        patiently(&mut self.locking, sql)
    }

    /// A trigger that fills one column where the session is of the other shape.
    fn trigger(&mut self, name: &str, fills: &str, with: &str, is: &str) -> anyhow::Result<()> {
        // Expressions name columns as they are called in the old shape.
        let columns: String = COLUMNS
            .iter()
            .map(|it| format!("{it} public.orders.{it}%TYPE := NEW.{it}; "))
            .collect();
        self.locking.client.batch_execute(&format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE {columns} path text;
             BEGIN
                 SELECT current_setting INTO path FROM current_setting('search_path');
                 IF path {is} '{WALKED}' THEN
                     NEW.{fills} = {with};
                     NEW._needs_backfill = false;
                 END IF;
                 RETURN NEW;
             END $$"
        ))?;
        // Nothing bounds how long this waits.
        self.locking.run(
            "",
            &format!(
                "CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON public.orders FOR EACH ROW \
                 EXECUTE FUNCTION {name}()"
            ),
        )?;
        Ok(())
    }
}

impl Engine for Walk {
    fn name(&self) -> String {
        "range walk".to_owned()
    }

    fn pid(&mut self) -> anyhow::Result<u32> {
        pid(&mut self.locking.client)
    }

    fn new_shape(&self) -> Option<String> {
        Some(WALKED.to_owned())
    }

    fn expand(&mut self) -> anyhow::Result<()> {
        let Walked { column, kind, up, down } = self.walked;
        self.patiently(&format!("ALTER TABLE public.orders ADD COLUMN {column} {kind}"))?;
        self.patiently(&format!(
            "ALTER TABLE public.orders ADD CONSTRAINT _not_null CHECK ({column} IS NOT NULL) \
             NOT VALID"
        ))?;
        let kept = COLUMNS.iter().filter(|it| down.is_none_or(|(old, _)| old != **it));
        let kept: String = kept.map(|it| format!("{it}, ")).collect();
        self.locking.client.batch_execute(&format!(
            "CREATE SCHEMA {WALKED}; CREATE VIEW {WALKED}.orders WITH (security_invoker = true) AS \
             SELECT {kept}{column} AS {} FROM public.orders",
            self.change.column(),
        ))?;
        self.patiently(
            "ALTER TABLE public.orders ADD COLUMN _needs_backfill boolean DEFAULT true",
        )?;
        self.trigger("_walk_up", column, up, "!=")?;
        if let Some((old, with)) = down {
            self.trigger("_walk_down", old, with, "=")?;
        }
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let client = &mut self.locking.client;
        let mut last = i32::MIN;
        loop {
            let mut tx = client.transaction()?;
            let rows = tx.query(
                &format!(
                    "WITH batch AS (
                         SELECT id FROM public.orders WHERE id > $1 AND _needs_backfill = true
                         ORDER BY id LIMIT {BATCH} FOR NO KEY UPDATE
                     ), filled AS (
                         UPDATE public.orders SET id = orders.id FROM batch
                         WHERE orders.id = batch.id RETURNING orders.id
                     ) SELECT max(id) FROM filled"
                ),
                &[&last],
            )?;
            tx.commit()?;
            match rows.first().context("no answer to a batch")?.get::<_, Option<i32>>(0) {
                Some(id) => last = id,
                None => return Ok(()),
            }
        }
    }

    fn tighten(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn contract(&mut self) -> anyhow::Result<()> {
        let column = self.walked.column;
        let new = self.change.column();
        self.locking
            .client
            .batch_execute("ALTER TABLE public.orders VALIDATE CONSTRAINT _not_null")?;
        self.patiently(&format!("ALTER TABLE public.orders ALTER COLUMN {column} SET NOT NULL"))?;
        self.patiently("ALTER TABLE public.orders DROP CONSTRAINT _not_null")?;
        if self.walked.down.is_some() {
            self.patiently(&format!("ALTER TABLE public.orders DROP COLUMN {new}"))?;
        }
        self.patiently(&format!("ALTER TABLE public.orders RENAME COLUMN {column} TO {new}"))?;
        for function in ["_walk_up", "_walk_down"] {
            self.patiently(&format!("DROP FUNCTION IF EXISTS {function}() CASCADE"))?;
        }
        self.patiently("ALTER TABLE public.orders DROP COLUMN IF EXISTS _needs_backfill")
    }

    fn held(&self) -> Duration {
        self.locking.held
    }
}
