//! An executor in a process of its own that is killed: before every statement in turn, and at any
//! moment of a backfill. Another process goes on, and nothing is lost or done twice.
//!
//! The process is this test binary, run again with [`ROLE`] set, which makes [`executor`] do its work.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_postgres::execute::{Executor, Failed, Session, Stage};
use evenkeel_postgres::plan::Plan;

use crate::catalog::{differences, dump};
use crate::rig::{Database, lines, public, told};

/// What the process shall do: `fill`, or all until `contract` or `undo`.
const ROLE: &str = "EVENKEEL_TEST_KILLED";
/// The folder of the server's socket, and the database.
const SERVER: &str = "EVENKEEL_TEST_SERVER";
const DATABASE: &str = "EVENKEEL_TEST_DATABASE";
/// A file with the plan.
const PLAN: &str = "EVENKEEL_TEST_PLAN";
/// Before which statement it kills itself, from nought; never if it is not set.
const BEFORE: &str = "EVENKEEL_TEST_BEFORE";
/// How it ends when all is done. The test harness ends with nought or 101.
const DONE: &str = "all is done";

/// Not a test: the work of the process that is killed.
#[test]
fn executor() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let read = |name: &str| std::env::var(name).expect("it is set");
    let plan = std::fs::read_to_string(read(PLAN)).expect("a plan");
    let plan: Plan = serde_json::from_str(&plan).expect("a plan");
    let client = postgres::Config::new()
        .host_path(read(SERVER))
        .user("owner")
        .dbname(&read(DATABASE))
        .connect(postgres::NoTls)
        .expect("the server answers");
    let mut session = Session::new(client);
    if let Ok(before) = std::env::var(BEFORE) {
        let mut left: usize = before.parse().expect("a number");
        session = session.heard_by(Box::new(move |_| {
            if left == 0 {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("killed");
            }
            left -= 1;
        }));
    }
    let done = all(session, &plan, &role);
    done.unwrap_or_else(|error| panic!("{}", told(&error)));
    println!("{DONE}");
}

fn all(session: Session, plan: &Plan, role: &str) -> Result<(), Failed> {
    let mut executor = Executor::new(session, &public())?;
    let ended = executor.ledger()?.entries.iter().any(|it| it.stage == Stage::Undone);
    if !ended {
        executor.expand(plan)?;
        executor.fill(plan, &mut |_| true)?;
    }
    if !ended && role != "fill" {
        executor.tighten(plan)?;
    }
    if role == "fill" {
        return Ok(());
    }
    if role == "contract" { executor.contract(plan) } else { executor.undo(plan) }
}

/// Begins the process.
fn begin(database: &Database, plan: &std::path::Path, role: &str, before: Option<usize>) -> Child {
    let (folder, name) = database.address();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["killed::executor", "--exact", "--nocapture"]).env(ROLE, role);
    command.env(SERVER, folder).env(DATABASE, name).env(PLAN, plan);
    if let Some(before) = before {
        command.env(BEFORE, before.to_string());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program runs")
}

/// Waits for the end; gives whether all was done, and fails if it ended by itself without that.
fn ended(child: Child) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stdout);
    let done = said.contains(DONE);
    assert!(
        done || out.status.signal() == Some(9),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    done
}

fn plan_file(plan: &Plan) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), serde_json::to_string(plan).expect("text")).expect("written");
    file
}

const BEFORE_SQL: &str = "
    CREATE TYPE mood AS ENUM ('ok', 'bad');
    CREATE TABLE parent (id serial PRIMARY KEY, name text);
    CREATE TABLE t (id serial PRIMARY KEY, parent int NOT NULL REFERENCES parent, n int UNIQUE, m mood);
    CREATE VIEW large AS SELECT id, n FROM t WHERE n > 10;
    INSERT INTO parent (name) SELECT 'p' || n FROM generate_series(1, 20) n;
    INSERT INTO t (parent, n) SELECT n, n FROM generate_series(1, 20) n";
const MIGRATION: &str = "
    ALTER TYPE mood ADD VALUE 'good';
    ALTER TABLE parent ALTER id TYPE bigint;
    ALTER TABLE t ALTER parent TYPE bigint;
    ALTER TABLE t ALTER n TYPE bigint;
    ALTER TABLE t ADD twice bigint NOT NULL CHECK (twice < 10000) -- up: n * 2
    ;
    CREATE INDEX twice ON t (twice);
    CREATE TABLE u (id serial PRIMARY KEY, t int REFERENCES t);
    CREATE TABLE large_ones (t int PRIMARY KEY REFERENCES t, parent int);
    INSERT INTO large_ones (t, parent) SELECT id, parent FROM t WHERE n > 10";

/// Kills before the first statement, then before the second of the next process, and so on, until one
/// comes through.
fn before_every_statement(role: &str) {
    let Some(database) = Database::new() else { return };
    let mut owner = database.with(BEFORE_SQL);
    let before = dump(&mut owner);
    let plan = database.plan(MIGRATION);
    let file = plan_file(&plan);
    // Each process is killed one statement later than the one before. Statements that were done are
    // looked at, not done again; so all are reached.
    let mut kills = 0;
    while !ended(begin(&database, file.path(), role, Some(kills))) {
        kills += 1;
        assert!(kills < 500, "it comes to an end");
    }
    assert!(kills > 40, "statements were killed: {kills}");
    eprintln!("killed before each of {kills} statements ({role})");
    if role == "contract" {
        let mut plain = database.another().with(BEFORE_SQL);
        plain.batch_execute("ALTER TYPE mood ADD VALUE 'good'").expect("a value");
        plain
            .batch_execute(
                "DROP VIEW large; ALTER TABLE parent ALTER id TYPE bigint;
                 ALTER TABLE t ALTER parent TYPE bigint, ALTER n TYPE bigint;
                 ALTER SEQUENCE parent_id_seq AS bigint;
                 ALTER TABLE t ADD twice bigint CHECK (twice < 10000); UPDATE t SET twice = n * 2;
                 ALTER TABLE t ALTER twice SET NOT NULL; CREATE INDEX twice ON t (twice);
                 CREATE TABLE u (id serial PRIMARY KEY, t int REFERENCES t);
                 CREATE TABLE large_ones (t int PRIMARY KEY REFERENCES t, parent int);
                 CREATE VIEW large AS SELECT id, n FROM t WHERE n > 10",
            )
            .unwrap_or_else(|error| panic!("{}", told(&error)));
        assert_eq!(differences(&dump(&mut owner), &dump(&mut plain)), "");
        assert_eq!(
            lines(&mut owner, "SELECT count(*), sum(n), sum(twice), sum(parent) FROM t"),
            "20 210 420 210"
        );
        assert_eq!(lines(&mut owner, "SELECT count(*), sum(parent) FROM large_ones"), "10 155");
    } else {
        let left = "+ type mood ok,bad,good\n- type mood ok,bad\n";
        assert_eq!(differences(&dump(&mut owner), &before), left);
        assert_eq!(lines(&mut owner, "SELECT count(*), sum(n), sum(parent) FROM t"), "20 210 210");
    }
}

#[test]
fn an_executor_is_killed_before_every_statement_until_contract() {
    before_every_statement("contract");
}

#[test]
fn an_executor_is_killed_before_every_statement_until_undo() {
    before_every_statement("undo");
}

const ROWS: u32 = 300_000;
const KILLS: u32 = 50;

/// Tells the writers to stop when it goes.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes rows until it is told to stop, each client every other row; gives what it wrote.
fn write(mut client: postgres::Client, new: bool, stop: &AtomicBool) -> Vec<(u32, u32)> {
    let mut random = fastrand::Rng::with_seed(u64::from(new));
    let mut written = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = random.u32(1..ROWS / 2) * 2 + u32::from(new);
        let n = random.u32(1..1_000_000);
        client
            .simple_query(&format!("UPDATE t SET n = {n} WHERE id = {id}"))
            .unwrap_or_else(|error| panic!("{}", told(&error)));
        written.push((id, n));
        thread::sleep(Duration::from_millis(1));
    }
    written
}

/// The new value of each row counts in a sequence how often it was computed to stay: a value that is
/// there is never written again, and one that a killed process computed is not there.
#[test]
fn an_executor_is_killed_fifty_times_while_it_fills_and_both_shapes_are_written() {
    let Some(database) = Database::new() else { return };
    let mut owner = database.with(&format!(
        "CREATE TABLE t (id bigserial PRIMARY KEY, n int NOT NULL, note text);
         CREATE INDEX ON t (n); CREATE INDEX ON t (note);
         INSERT INTO t (n, note) SELECT n, 'note ' || n FROM generate_series(1, {ROWS}) n;
         ANALYZE t;
         CREATE TABLE seen (id bigint, filled bigint, backfill bool);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF OLD.filled IS NOT NULL AND OLD.filled IS DISTINCT FROM NEW.filled THEN
                 RAISE EXCEPTION 'row % is filled twice', OLD.id; END IF;
             INSERT INTO seen VALUES (NEW.id, NEW.filled,
                                      current_setting('evenkeel.backfill', true) = 'on');
             RETURN NULL; END $$;
         CREATE SEQUENCE counted;"
    ));
    let plan = database.plan(
        "ALTER TABLE t ALTER n TYPE bigint;
         ALTER TABLE t ADD filled bigint NOT NULL -- up: nextval('counted')
         ;",
    );
    let mut executor = database.executor();
    executor.expand(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
    drop(executor);
    // Fires for every row that gets its value, also where triggers are left out for a backfill.
    owner
        .batch_execute(
            "CREATE TRIGGER see AFTER UPDATE ON t FOR EACH ROW
                 WHEN (OLD.filled IS DISTINCT FROM NEW.filled) EXECUTE FUNCTION see();
             ALTER TABLE t ENABLE ALWAYS TRIGGER see",
        )
        .expect("a trigger");
    let file = plan_file(&plan);

    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // Also when something here fails: the writers end before the scope does.
        let stopping = Stopping(&stop);
        let stop = &stop;
        let clients = [database.connect(), database.through(&plan.views)];
        let writers = [false, true]
            .into_iter()
            .zip(clients)
            .map(|(new, client)| scope.spawn(move || write(client, new, stop)))
            .collect::<Vec<_>>();
        let mut random = fastrand::Rng::with_seed(7);
        let began = Instant::now();
        let mut kills = 0;
        while kills < KILLS {
            let mut child = begin(&database, file.path(), "fill", None);
            thread::sleep(Duration::from_millis(random.u64(10..60)));
            child.kill().expect("killed");
            if ended(child) {
                break;
            }
            kills += 1;
        }
        let rows =
            lines(&mut database.connect(), "SELECT coalesce(max(rows), 0) FROM evenkeel.backfill");
        eprintln!("{kills} kills in {:?}, {rows} rows filled by then", began.elapsed());
        if kills < KILLS {
            // Who writes would be waited for.
            stop.store(true, Ordering::Relaxed);
        }
        assert_eq!(kills, KILLS, "the backfill was over too early");
        let mut executor = database.executor();
        executor.fill(&plan, &mut |_| true).unwrap_or_else(|error| panic!("{}", told(&error)));
        drop(stopping);
        executor.tighten(&plan).unwrap_or_else(|error| panic!("{}", told(&error)));
        let joined = writers.into_iter().map(|it| it.join().expect("no write fails"));
        joined.collect::<Vec<_>>()
    });
    let mut last = written.into_iter().map(|it| it.into_iter().collect::<BTreeMap<_, _>>());
    let (by_old, by_new) = (last.next().unwrap_or_default(), last.next().unwrap_or_default());
    assert!(by_old.len() > 100 && by_new.len() > 100, "{} {}", by_old.len(), by_new.len());

    // Each row is there, with its value, which it got once.
    assert_eq!(
        lines(
            &mut owner,
            "SELECT count(*), count(filled), count(DISTINCT filled),
                    (SELECT count(*) FROM seen) = count(*),
                    (SELECT count(DISTINCT id) FROM seen) = count(*) FROM t"
        ),
        format!("{ROWS} {ROWS} {ROWS} t t")
    );
    let rows = lines(&mut database.through(&plan.views), "SELECT id, n FROM t");
    let rows: BTreeMap<u32, u32> = rows
        .lines()
        .filter_map(|it| it.split_once(' '))
        .map(|(id, n)| (id.parse().expect("a number"), n.parse().expect("a number")))
        .collect();
    for (id, n) in by_old.iter().chain(&by_new) {
        assert_eq!(rows[id], *n, "row {id}");
    }
    let through_old = lines(&mut owner, "SELECT sum(n), sum(hashint8(id * n)) FROM t");
    let through_new =
        lines(&mut database.through(&plan.views), "SELECT sum(n), sum(hashint8(id * n)) FROM t");
    assert_eq!(through_old, through_new);
}
