//! A PostgreSQL of the demo's own: made in a folder of its own, reached by a socket there, and
//! removed at the end.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use evenkeel_local as local;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::installed::{self, Installed};

/// How long one of its programs may take.
const PROGRAM_MAX: Duration = Duration::from_secs(30);
/// How long it may take to end in order: there is hardly anything to write.
const STOP_MAX_S: u32 = 10;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Where the last program that ran wrote what it had to say, and the server what it says.
const SAID: &str = "said";
const LOG: &str = "log";
/// Whom it may run as where the demo runs as root, which it refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Where one comes from.
const HINT: &str = "`apt install postgresql` or `dnf install postgresql-server` brings one";
/// What stands in lines that say why something failed.
const ERRORS: [&str; 2] = ["error: ", "FATAL: "];
/// How variables begin that its programs would take for settings.
const VARIABLES: &str = "PG";

/// A server that runs.
#[derive(Debug)]
pub(super) struct Database {
    installed: Installed,
    /// User and group that it runs as, if not those of the demo.
    runs_as: Option<(u32, u32)>,
    folder: Option<TempDir>,
}

impl Database {
    /// Makes one below `parent`, with the programs in `only` this folder or the newest ones that are
    /// found. The error says why there is none.
    pub(super) fn make(parent: &Path, only: Option<&Path>) -> anyhow::Result<Self> {
        let installed = installed::newest(only).with_context(|| match only {
            Some(folder) => format!("there is no PostgreSQL 14 to 18 in {}", folder.display()),
            None => format!("there is no PostgreSQL 14 to 18 on this machine; {HINT}"),
        })?;
        let folder = tempfile::Builder::new().prefix("ek-db-").tempdir_in(parent)?;
        let runs_as = match local::own_uid() {
            0 => Some(somebody()?),
            _ => None,
        };
        if let Some((user, group)) = runs_as {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let database = Self { installed, runs_as, folder: Some(folder) };
        database.start().with_context(|| {
            let (major, smaller) = database.installed.version;
            format!("PostgreSQL {major}.{smaller} could not be started")
        })?;
        Ok(database)
    }

    /// Its version, such as 15.
    pub(super) fn major(&self) -> u32 {
        self.installed.version.0
    }

    /// Its address.
    pub(super) fn address(&self) -> String {
        let folder = self.path().display().to_string();
        let folder = folder.replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{folder}' user=owner dbname=postgres")
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let connected = tokio_postgres::connect(&self.address(), NoTls).await;
        let (client, connection) = connected.context("could not connect to the database")?;
        // Its error reaches who asks as well.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new(""), TempDir::path)
    }

    fn start(&self) -> anyhow::Result<()> {
        let plain = ["-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        self.run("initdb", &plain)?;
        let folder = self.path().display().to_string().replace('\'', "''");
        let mut settings =
            File::options().append(true).open(self.path().join("data/postgresql.conf"))?;
        // All of it is thrown away at the end, so nothing waits for a disk.
        writeln!(
            settings,
            "listen_addresses = ''\nunix_socket_directories = '{folder}'\nport = 5432\nfsync = off"
        )?;
        drop(settings);
        self.run("pg_ctl", &["-w", "-l", LOG, "start"])
    }

    /// Runs one of its programs in its folder.
    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let said = File::create(self.path().join(SAID))?;
        let mut command = Command::new(self.installed.folder.join(program));
        command.args(["-D", "data"]).args(arguments).current_dir(self.path()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(VARIABLES.as_bytes()) {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.runs_as {
            command.uid(user).gid(group);
        }
        let (stdout, stderr) = (Stdio::null(), Stdio::from(said));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let mut child = child.with_context(|| format!("could not run {program}"))?;
        let deadline = Instant::now() + PROGRAM_MAX;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => bail!("{program}: {}", self.last_words()),
                None if Instant::now() > deadline => {
                    child.kill()?;
                    child.wait()?;
                    bail!("{program} did not end within {} s", PROGRAM_MAX.as_secs());
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// What was said of an error, or said last.
    fn last_words(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path().join(name)).unwrap_or_default();
        let text = read(SAID) + &read(LOG);
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let tells = |line: &&str| ERRORS.iter().any(|it| line.contains(it));
        let told = lines.clone().find(tells).or_else(|| lines.next_back());
        told.unwrap_or("it says nothing").to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let most = STOP_MAX_S.to_string();
        if self.path().join("data/postmaster.pid").exists() {
            let stop = |how| self.run("pg_ctl", &["-w", "-t", &most, "-m", how, "stop"]);
            if let Err(error) = stop("fast").or_else(|_slow| stop("immediate")) {
                crate::term::note(&format!(
                    "evenkeel: the demo's database does not end: {error:#}"
                ));
            }
        }
        if let Some(Err(error)) = self.folder.take().map(TempDir::close) {
            crate::term::note(&format!("evenkeel: could not remove the demo's database: {error}"));
        }
    }
}

/// User and group of somebody whom nothing belongs to, or only databases.
fn somebody() -> anyhow::Result<(u32, u32)> {
    USERS
        .into_iter()
        .find_map(local::user_ids)
        .context("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}
