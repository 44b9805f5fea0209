//! A PostgreSQL of the tests' own, and databases in it.
//!
//! One server of each version serves all tests of the process. It listens on a socket in a folder of
//! its own and ends when the process does, however that ends: it is told by a pipe.
//!
//! Tests run on the PostgreSQL that is installed; those that ask for it ([`Database::each`]) also on
//! the other versions that `.ci/run` fetched. `EVENKEEL_POSTGRES_BIN` names the programs of another
//! one, which is then the only one.

use std::os::unix::fs::{PermissionsExt as _, chown};
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
use postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// What the socket of a server is called by, where nobody else listens.
const PORT: u16 = 5432;
/// Who may do everything.
const OWNER: &str = "owner";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    port: u16,
}

/// The folders with the programs of each version that is here: first the one that is installed.
pub(crate) fn programs() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("EVENKEEL_POSTGRES_BIN") {
        return vec![PathBuf::from(folder)];
    }
    let versions = |folder: &Path, prefix: &str| -> Vec<PathBuf> {
        let named =
            |it: &Path| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with(prefix));
        let all = within(folder, named).into_iter().map(|it| it.join("bin"));
        all.filter(|it| it.join("initdb").exists()).collect()
    };
    let mut all: Vec<PathBuf> =
        versions(Path::new("/usr/lib/postgresql"), "").pop().into_iter().collect();
    all.extend(versions(&cache(), "postgres-"));
    all
}

/// Where `.ci/run` keeps what it fetched.
pub(crate) fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|it| PathBuf::from(it).join(".cache"));
    cache.or(home).unwrap_or_default().join("evenkeel-ci")
}

/// The histories of published applications: folders of migrations. None, and a line that says why, if
/// they were not fetched.
pub(crate) fn histories() -> Vec<PathBuf> {
    let folders = within(&cache().join("histories"), |_| true);
    if folders.is_empty() {
        skipped("no histories of published applications: .ci/histories fetches them");
    }
    folders
}

/// The migrations in a folder, in the order of their names.
pub(crate) fn migrations(folder: &Path) -> Vec<PathBuf> {
    within(folder, |it| it.extension().is_some_and(|it| it == "sql"))
}

/// What is in a folder, sorted; nothing if there is none.
fn within(folder: &Path, is: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten();
    let mut all: Vec<PathBuf> =
        all.filter_map(|it| Some(it.ok()?.path())).filter(|it| is(it)).collect();
    all.sort();
    all
}

/// The servers of this process, in the order of [`programs`]; each is started when it is first asked
/// for. A server that cannot be started says why.
fn servers() -> Vec<Result<&'static Server, &'static String>> {
    (0..all().len()).map(server).collect()
}

type Cell = (PathBuf, OnceLock<Result<Server, String>>);

fn all() -> &'static [Cell] {
    static ALL: OnceLock<Vec<Cell>> = OnceLock::new();
    ALL.get_or_init(|| programs().into_iter().map(|it| (it, OnceLock::new())).collect())
}

fn server(at: usize) -> Result<&'static Server, &'static String> {
    static NONE: OnceLock<String> = OnceLock::new();
    match all().get(at) {
        Some((programs, cell)) => cell.get_or_init(|| start(programs)).as_ref(),
        None => Err(NONE.get_or_init(|| "PostgreSQL is not installed".to_owned())),
    }
}

fn start(programs: &Path) -> Result<Server, String> {
    start_with(programs, &[], &[], PORT)
}

/// A server with these files in its folder, and these settings.
pub(crate) fn start_with(
    programs: &Path,
    files: &[(&str, &str)],
    settings: &[&str],
    port: u16,
) -> Result<Server, String> {
    let folder = tempfile::Builder::new().prefix("evenkeel-postgres-").tempdir();
    // The server's guard removes it: it lives as long as the server.
    let folder = folder.map_err(|error| error.to_string())?.keep();
    let path = |name: &str| folder.join(name);
    for (name, text) in files {
        std::fs::write(path(name), text).map_err(|error| error.to_string())?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path(name), mode).map_err(|error| error.to_string())?;
    }
    let mut programs = programs.to_path_buf();
    // What somebody else may not remove is removed by whoever runs the tests.
    let mut guard = Command::new("sh");
    guard.args(["-c", "folder=$1; shift; \"$@\"; rm -rf \"$folder\"", "sh"]).arg(&folder);
    guard.arg("setpriv");
    // PostgreSQL refuses to run as root.
    if rustix::process::geteuid().is_root() {
        let (user, group) = somebody()?;
        for file in files.iter().map(|(name, _)| path(name)).chain([folder.clone()]) {
            chown(&file, Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
        programs = readable(&programs, &folder)?;
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
            -c max_wal_size=4GB -c fsync=off -c max_connections=200 -c wal_level=logical -c max_prepared_transactions=4 \
            $3 >log 2>&1 & }
        server=$!
        read -r _
        kill -INT $server; wait $server
    "#;
    let mut guard = guard
        .args(["sh", "-c", script, "sh"])
        .arg(&programs)
        .arg(&folder)
        .arg(
            settings.iter().map(|it| format!("-c {it} ")).collect::<String>()
                + &format!("-c port={port}"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("setpriv: {error}"))?;
    // Held open until the process ends.
    std::mem::forget(guard.stdin.take());
    let server = Server { folder, port };
    let began = Instant::now();
    while server.connect("postgres", OWNER).is_err() {
        if began.elapsed() > START_TIMEOUT {
            let log = std::fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            panic!("PostgreSQL did not start: {log}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// The programs where everybody can read them: what is kept below a home cannot be.
fn readable(programs: &Path, folder: &Path) -> Result<PathBuf, String> {
    if !programs.starts_with(cache()) {
        return Ok(programs.to_path_buf());
    }
    let here = folder.join("programs");
    let version = programs.parent().ok_or("the programs are in no folder")?;
    // Links where they can be had; both on one disk.
    for how in ["-al", "-a"] {
        let done =
            Command::new("cp").arg(how).arg(version).arg(&here).stderr(Stdio::null()).status();
        if done.is_ok_and(|it| it.success()) {
            return Ok(here.join("bin"));
        }
        drop(std::fs::remove_dir_all(&here));
    }
    Err(format!("could not copy {}", version.display()))
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
    fn connect(&self, database: &str, user: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(Path::new(&self.folder))
            .port(self.port)
            .user(user)
            .dbname(database)
            .connect(NoTls)
    }
}

/// A database of a test's own.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
    user: &'static str,
}

impl Database {
    /// A new database on the server that is installed; nothing, and a line that says why, if there
    /// is no PostgreSQL here.
    pub(crate) fn new() -> Option<Self> {
        match server(0) {
            Ok(server) => Some(Self::on(server)),
            Err(why) => {
                skipped(why);
                None
            }
        }
    }

    /// A new database on a server of its own: on another one, what others do in their databases keeps
    /// what is left behind from being cleaned up.
    pub(crate) fn alone() -> Option<Self> {
        let Some(programs) = programs().into_iter().next() else {
            skipped("PostgreSQL is not installed");
            return None;
        };
        match start_with(&programs, &[], &[], PORT) {
            Ok(server) => Some(Self::on(Box::leak(Box::new(server)))),
            Err(why) => {
                skipped(&why);
                None
            }
        }
    }

    /// A new database on a server of each version that is here.
    pub(crate) fn each() -> Vec<Self> {
        let servers = servers();
        if servers.is_empty() {
            skipped("PostgreSQL is not installed");
        }
        servers
            .into_iter()
            .filter_map(|server| match server {
                Ok(server) => Some(Self::on(server)),
                Err(why) => {
                    skipped(why);
                    None
                }
            })
            .collect()
    }

    fn on(server: &'static Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut client = server.connect("postgres", OWNER).expect("the server answers");
        client.batch_execute(&format!("CREATE DATABASE {name}")).expect("a new database");
        Self { server, name, user: OWNER }
    }

    /// The same database, as this role has it.
    pub(crate) fn by(&self, user: &'static str) -> Self {
        Self { server: self.server, name: self.name.clone(), user }
    }

    /// The folder of the server's socket, and the name of the database.
    pub(crate) fn address(&self) -> (&Path, &str) {
        (&self.server.folder, &self.name)
    }

    /// Another new database on the same server.
    pub(crate) fn another(&self) -> Self {
        Self::on(self.server)
    }

    /// A connection.
    pub(crate) fn connect(&self) -> Client {
        self.server.connect(&self.name, self.user).expect("the server answers")
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

    /// The major version of its server.
    pub(crate) fn version(&self) -> u32 {
        lines(&mut self.connect(), "SELECT current_setting('server_version_num')::int / 10000")
            .parse()
            .expect("a number")
    }

    /// Hands the database to a role that is no superuser, whom a server would not let do everything;
    /// gives a connection of it.
    pub(crate) fn handed_over(&self) -> Client {
        self.with(&format!(
            "DO $$ BEGIN CREATE ROLE plain; EXCEPTION WHEN duplicate_object THEN NULL;
                         WHEN unique_violation THEN NULL; END $$;
             ALTER DATABASE {} OWNER TO plain; ALTER SCHEMA public OWNER TO plain; SET ROLE plain",
            self.name
        ))
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

pub(crate) fn public() -> Name {
    Name::new("public")
}

/// What a query gives, a line per row.
pub(crate) fn lines(client: &mut Client, query: &str) -> String {
    let rows =
        client.simple_query(query).unwrap_or_else(|error| panic!("{query:.200}: {}", told(&error)));
    let mut out = Vec::new();
    for row in rows {
        if let SimpleQueryMessage::Row(row) = row {
            let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("~")).collect();
            out.push(cells.join(" "));
        }
    }
    out.join("\n")
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
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        if let Ok(mut file) = file {
            drop(writeln!(file, "{why}"));
        }
    }
}
