//! A PostgreSQL of the tests' own, and databases in it.
//!
//! One server serves all tests of the process. It listens on a socket in a folder of its own and
//! ends when the process does, however that ends: it is told by a pipe.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_postgres::catalog;
use evenkeel_postgres::execute::{Executor, Session};
use evenkeel_postgres::name::Name;
use evenkeel_postgres::plan::{self, Plan};
use evenkeel_postgres::shape::Shape;
use evenkeel_postgres::sql::{Grammar as _, Squawk};
use evenkeel_postgres::wanted::Wanted;
use postgres::{Client, Config, NoTls};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    folder: PathBuf,
}

/// The server of this process; nothing, and why, if there is no PostgreSQL here.
fn server() -> Result<&'static Server, &'static String> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

/// The folder with `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("EVENKEEL_POSTGRES_BIN") {
        return Some(PathBuf::from(folder));
    }
    let mut all: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|it| Some(it.ok()?.path().join("bin")))
        .filter(|it| it.join("initdb").exists())
        .collect();
    all.sort();
    all.pop()
}

fn start() -> Result<Server, String> {
    let programs = programs().ok_or("PostgreSQL is not installed")?;
    let folder = tempfile::Builder::new().prefix("evenkeel-postgres-").tempdir();
    // The server's guard removes it: it lives as long as the server.
    let folder = folder.map_err(|error| error.to_string())?.keep();
    let mut guard = Command::new("setpriv");
    // PostgreSQL refuses to run as root.
    if rustix::process::geteuid().is_root() {
        let (user, group) = somebody()?;
        chown(&folder, Some(user), Some(group)).map_err(|error| error.to_string())?;
        guard.args([
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
        ]);
    }
    let script = r#"
        cd "$2" &&
        "$1/initdb" -D data -U owner -A trust --no-sync -E UTF8 --locale=C >init.log 2>&1 &&
        { "$1/postgres" -D data -k "$2" -c listen_addresses= -c shared_buffers=256MB \
            -c max_wal_size=4GB -c fsync=off -c max_connections=200 -c wal_level=logical \
            >log 2>&1 & }
        server=$!
        read -r _
        kill -INT $server; wait $server; rm -rf "$2"
    "#;
    let mut guard = guard
        .args(["sh", "-c", script, "sh"])
        .arg(&programs)
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("setpriv: {error}"))?;
    // Held open until the process ends.
    std::mem::forget(guard.stdin.take());
    let server = Server { folder };
    let began = Instant::now();
    while server.connect("postgres").is_err() {
        if began.elapsed() > START_TIMEOUT {
            let log = std::fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            panic!("PostgreSQL did not start: {log}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// Whom the server runs as, if the tests run as root.
fn somebody() -> Result<(u32, u32), String> {
    let id = |flag: &str, user: &str| -> Option<u32> {
        let out = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(out.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .ok_or_else(|| "there is no user that PostgreSQL could run as".to_owned())
}

impl Server {
    fn connect(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(Path::new(&self.folder))
            .user("owner")
            .dbname(database)
            .connect(NoTls)
    }
}

/// A database of a test's own.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// A new database; nothing, and a line that says why, if there is no PostgreSQL here.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = match server() {
            Ok(server) => server,
            Err(why) => {
                skipped(why);
                return None;
            }
        };
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut client = server.connect("postgres").expect("the server answers");
        client.batch_execute(&format!("CREATE DATABASE {name}")).expect("a new database");
        Some(Self { server, name })
    }

    /// A connection.
    pub(crate) fn connect(&self) -> Client {
        self.server.connect(&self.name).expect("the server answers")
    }

    /// A connection that runs some SQL first.
    pub(crate) fn with(&self, sql: &str) -> Client {
        let mut client = self.connect();
        client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", told(&error)));
        client
    }

    /// A connection as code of a revision has it.
    pub(crate) fn through(&self, views: &Name) -> Client {
        self.with(&format!("SET search_path = {views}, public"))
    }

    pub(crate) fn executor(&self) -> Executor {
        Executor::new(Session::new(self.connect()), &public()).expect("nobody else has it")
    }

    /// The shape that it has.
    pub(crate) fn shape(&self) -> Shape {
        catalog::read(&mut self.connect(), &public(), &Squawk).expect("a shape that is understood")
    }

    /// The plan for a migration.
    pub(crate) fn plan(&self, migration: &str) -> Plan {
        self.try_plan(migration).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The plan for a migration, or all problems as text.
    pub(crate) fn try_plan(&self, migration: &str) -> Result<Plan, String> {
        let now = self.shape();
        let ledger = self.executor().ledger().expect("a ledger");
        let (statements, problems) = Squawk.read("change.sql", migration, &public());
        let text = |problems: Vec<evenkeel_postgres::problem::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        if !problems.is_empty() {
            return Err(text(problems));
        }
        let wanted = Wanted::after(&now, &statements, &Squawk).map_err(text)?;
        plan::derive(&now, &wanted, ledger.next(), ledger.views().cloned()).map_err(text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut client) = self.server.connect("postgres") {
            drop(client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)));
        }
    }
}

pub(crate) fn public() -> Name {
    Name::new("public")
}

/// An error with what the database said.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(it) = source {
        text.push_str(": ");
        text.push_str(&it.to_string());
        source = it.source();
    }
    text
}

/// Says that a test could not run here, as all rooms do.
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        if let Ok(mut file) = file {
            drop(writeln!(file, "{why}"));
        }
    }
}
