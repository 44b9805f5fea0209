//! A PostgreSQL of the benchmark's own: a data folder that is filled once, and a server on a fresh
//! copy of it for each engine.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postgres::{Client, Config, NoTls};

/// How long a server may take to answer, or to end.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of a small server as people run it: it waits for the disk, and cleans up by itself.
const SETTINGS: &str = "-c listen_addresses= -c fsync=on -c shared_buffers=2GB -c max_wal_size=16GB \
    -c wal_level=logical -c autovacuum=on -c max_connections=60";

/// Copies the data, if it is told from where, and runs a server until nobody holds its input.
const SCRIPT: &str = r#"
    cd "$2" || exit 1
    if [ -n "$3" ]; then cp -a --reflink=auto "$3/data" data && sync -f data
    else "$1/initdb" -D data -U owner -A trust --no-sync -E UTF8 --locale=C >init.log 2>&1; fi || exit 1
    "$1/postgres" -D data -k "$2" $4 >log 2>&1 &
    server=$!
    read -r _
    kill -INT $server; wait $server
"#;

/// The folder with the programs of the PostgreSQL that is installed.
pub(super) fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("EVENKEEL_POSTGRES_BIN") {
        return Some(PathBuf::from(folder));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions
        .filter_map(Result::ok)
        .map(|it| it.path().join("bin"))
        .filter(|it| it.join("initdb").exists())
        .collect();
    all.sort();
    all.pop()
}

/// A filled database that nobody runs.
pub(super) struct Seed {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Seed {
    /// Fills a new database with SQL.
    pub(super) fn new(programs: PathBuf, sql: &[String]) -> anyhow::Result<Self> {
        let folder = folder()?;
        let server = Server::start(&programs, folder, None)?;
        let mut client = server.connect("")?;
        for statement in sql {
            client.batch_execute(statement)?;
        }
        drop(client);
        Ok(Self { folder: server.end()?, programs })
    }

    /// A server on a fresh copy.
    pub(super) fn server(&self) -> anyhow::Result<Server> {
        let server = Server::start(&self.programs, folder()?, Some(self.folder.path()))?;
        server.connect("")?.batch_execute("CHECKPOINT")?;
        Ok(server)
    }
}

fn folder() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("ekb-").tempdir()?)
}

/// A running server. It ends when this is dropped, or the process ends.
pub(super) struct Server {
    /// Told by its input that it is over.
    guard: Child,
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Server {
    fn start(
        programs: &Path,
        folder: tempfile::TempDir,
        from: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let path = folder.path().to_owned();
        let mut words: Vec<String> = Vec::new();
        // PostgreSQL refuses to run as root.
        if std::fs::metadata("/proc/self")?.uid() == 0 {
            let (user, group) = somebody()?;
            chown(&path, Some(user), Some(group))?;
            words.extend(["setpriv".to_owned(), format!("--reuid={user}")]);
            words.extend([format!("--regid={group}"), "--clear-groups".to_owned()]);
        }
        words.extend(["sh", "-c", SCRIPT, "sh"].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(programs).arg(&path);
        command.arg(from.unwrap_or(Path::new(""))).arg(SETTINGS);
        let guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start PostgreSQL")?;
        let server = Self { guard, folder: Some(folder), path };
        let began = Instant::now();
        while server.connect("").is_err() {
            if began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(server.path.join("log")).unwrap_or_default();
                bail!("PostgreSQL did not start: {log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A connection that looks for tables where it is told to.
    pub(super) fn connect(&self, search_path: &str) -> Result<Client, postgres::Error> {
        connect(&self.path, search_path)
    }

    /// The folder of its socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it and gives its folder.
    fn end(mut self) -> anyhow::Result<tempfile::TempDir> {
        self.stop();
        self.folder.take().context("the server has no folder")
    }

    fn stop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            println!("could not wait for PostgreSQL: {error}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.folder.is_some() {
            self.stop();
        }
    }
}

/// A connection to the server whose socket is in a folder.
pub(super) fn connect(path: &Path, search_path: &str) -> Result<Client, postgres::Error> {
    let mut client =
        Config::new().host_path(path).user("owner").dbname("postgres").connect(NoTls)?;
    if !search_path.is_empty() {
        client.batch_execute(&format!("SET search_path = {search_path}"))?;
    }
    Ok(client)
}

/// Whom the server runs as, if this runs as root.
fn somebody() -> anyhow::Result<(u32, u32)> {
    let id = |flag: &str, user: &str| -> Option<u32> {
        let out = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(out.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .context("there is no user that PostgreSQL could run as")
}
