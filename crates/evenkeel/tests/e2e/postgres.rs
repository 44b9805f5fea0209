//! A PostgreSQL for a test, that ends when the test's process does, however that ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::machine::{skip, within};

/// How long it may take to make a database and start it, on a busy machine.
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A running server with a database `shop`.
pub(crate) struct Postgres {
    folder: PathBuf,
    psql: PathBuf,
    /// Ends the server when its standard input is closed, with the test or its process.
    guard: Child,
}

impl Postgres {
    /// Starts one; nothing, and a line that says why, where there is none.
    pub(crate) fn start() -> Option<Self> {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|it| Some(it.ok()?.path().join("bin")))
            .filter(|it| it.join("initdb").exists())
            .collect();
        versions.sort();
        let Some(programs) = versions.pop() else {
            skip("releases with a database: PostgreSQL is not installed (postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("evenkeel-db-").tempdir().unwrap().keep();
        let mut guard = Command::new("setpriv");
        // PostgreSQL refuses to run as root.
        if rustix::process::geteuid().is_root() {
            let (user, group) = ["postgres", "nobody"].into_iter().find_map(ids).unwrap();
            chown(&folder, Some(user), Some(group)).unwrap();
            guard.arg(format!("--reuid={user}"));
            guard.arg(format!("--regid={group}")).arg("--clear-groups");
        }
        let script = r#"
            cd "$2" &&
            "$1/initdb" -D data -U owner -A trust --no-sync -E UTF8 --locale=C >init.log 2>&1 &&
            { "$1/postgres" -D data -k "$2" -c listen_addresses= -c fsync=off \
                -c max_connections=200 >log 2>&1 & }
            server=$!
            read -r _
            kill -INT $server; wait $server; rm -rf "$2"
        "#;
        let guard = guard
            .args(["sh", "-c", script, "sh"])
            .arg(&programs)
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, psql: programs.join("psql"), guard };
        let made = within(START, LOOK, || server.try_ask("postgres", "CREATE DATABASE shop").ok());
        assert!(made.is_some(), "PostgreSQL did not start; see {}", server.folder.display());
        Some(server)
    }

    /// The address of its database.
    pub(crate) fn url(&self) -> String {
        self.url_of("owner")
    }

    /// The same for another role, which may have a password.
    pub(crate) fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}@/shop?host={}", self.folder.display())
    }

    /// What a query gives, a line per row.
    #[track_caller]
    pub(crate) fn ask(&self, query: &str) -> String {
        self.try_ask("shop", query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// A client by this name that has run something, and keeps its connection until it is dropped.
    pub(crate) fn client(&self, name: &str, run: &str) -> Client {
        let mut psql = Command::new(&self.psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", "shop", "-h"])
            .arg(&self.folder)
            .env("PGAPPNAME", name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(psql.stdin.as_mut().unwrap(), "{run}; SELECT 'done';").unwrap();
        let mut said = BufReader::new(psql.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "done"), "{run}");
        Client(psql)
    }

    fn try_ask(&self, database: &str, query: &str) -> Result<String, String> {
        let out = Command::new(&self.psql)
            .args(["-XAt", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-h"])
            .arg(&self.folder)
            .args(["-d", database, "-c", query])
            .output()
            .map_err(|error| error.to_string())?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }
}

/// A client with a connection.
pub(crate) struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

/// The numbers of a user and its group.
fn ids(user: &str) -> Option<(u32, u32)> {
    let id = |flag: &str| -> Option<u32> {
        let out = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(out.stdout).ok()?.trim().parse().ok()
    };
    Some((id("-u")?, id("-g")?))
}
