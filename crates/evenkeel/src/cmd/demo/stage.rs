//! Where the demo plays: a home in a temporary folder with roles of its own, and everything that
//! takes it down again.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use evenkeel_control::api::types::{Answer, Status, Submission, WaitView};
use evenkeel_control::client::{self, Client};
use evenkeel_kernel::layout;
use tempfile::TempDir;
use tokio::time::timeout;

use super::database::Database;
use super::stack::{ADDRESS, MIGRATIONS, Place, Variant};
use super::strike::strike;
use crate::cli::Demo;
use crate::{role, stackfile};

/// How long control may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long control may be away: it is killed on the way.
const AWAY_MAX: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// The ports that the edge's is drawn from: below those of instances and of outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..20_000;
/// A crashing instance dies after this part of a second's requests; at a tenth of the traffic that
/// is after half a second.
const CRASH_PERCENT: u32 = 6;
/// It answers a few requests first, however low the rate.
const CRASH_MIN: u32 = 3;
/// Ports tried before there seem to be none.
const PORTS_MAX: usize = 50;

/// A thread of which something comes; it stays here until then, so that nothing is removed before.
type Work<T> = RefCell<Option<JoinHandle<anyhow::Result<T>>>>;

/// A home of its own.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Option<TempDir>,
    /// It is not removed at the end.
    keep: bool,
    home: PathBuf,
    client: Client,
    place: RefCell<Place>,
    /// The stack file as it was sent last.
    submission: RefCell<Option<Submission>>,
    /// Who reads the stack file.
    reader: Work<Submission>,
    /// Who makes the database, while other things go on.
    maker: Work<Database>,
    database: OnceCell<Database>,
    struck: bool,
}

impl Stage {
    /// Makes the folder, starts the roles, and begins to make a database.
    pub(super) async fn build(args: &Demo) -> anyhow::Result<Self> {
        let (rate, keep) = (args.rate, args.keep);
        let parent = std::env::temp_dir();
        // Sockets have short names; a temporary folder far down is not used.
        let fits = parent.as_os_str().len() + 16 <= layout::HOME_LENGTH_MAX;
        let parent = if fits { parent } else { PathBuf::from("/tmp") };
        let folder = tempfile::Builder::new()
            .prefix("ek-")
            .disable_cleanup(keep)
            .tempdir_in(&parent)
            .with_context(|| format!("could not make a folder in {}", parent.display()))?;
        // The roles name it by its real path, and so it is known again.
        let home = folder.path().canonicalize().context("could not find the folder just made")?;
        let program = role::own_program()?;
        let program = program.to_str().context("the path of this program is not UTF-8")?;
        let place = Place {
            program: program.to_owned(),
            port: free_port()?,
            crash_after: (rate * CRASH_PERCENT / 100).max(CRASH_MIN),
        };
        let client = Client::new(&home);
        let stage = Self {
            folder: Some(folder),
            keep,
            home,
            client,
            place: RefCell::new(place),
            submission: RefCell::default(),
            reader: RefCell::default(),
            maker: RefCell::default(),
            database: OnceCell::new(),
            struck: false,
        };
        let only = args.postgres.clone();
        let maker = std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || Database::make(&parent, only.as_deref()))
            .context("could not start a thread")?;
        stage.maker.replace(Some(maker));
        role::start(&stage.home).await?;
        Ok(stage)
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The port of the edge.
    pub(super) fn port(&self) -> u16 {
        self.place.borrow().port
    }

    /// The database, when it is made. The error says why there is none.
    pub(super) async fn database(&self) -> anyhow::Result<&Database> {
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let made = outcome(&self.maker, "making a database").await?;
        std::fs::write(self.home.join(ADDRESS), made.address())
            .context("could not write the address of the database")?;
        Ok(self.database.get_or_init(|| made))
    }

    /// Takes another port: a stranger was faster.
    pub(super) fn change_port(&self) -> anyhow::Result<()> {
        self.place.borrow_mut().port = free_port()?;
        Ok(())
    }

    /// Applies a variant of the stack; returns the number of its release.
    pub(super) async fn apply(&self, variant: Variant) -> anyhow::Result<u64> {
        let text = variant.text(&self.place.borrow());
        let path = self.home.join(stackfile::NAME);
        std::fs::write(&path, &text).context("could not write the stack file")?;
        if let Some(migration) = variant.migration() {
            let folder = self.home.join(MIGRATIONS);
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(folder.join(migration.file), migration.text))
                .context("could not write a migration")?;
        }
        // What a migration comes to is worked out when it is read; all else is the same each time.
        let sent_before = self.submission.take().filter(|_| variant.migration().is_none());
        let mut submission = match sent_before {
            Some(submission) => submission,
            None => self.read(path).await?,
        };
        submission.text = text;
        let answer: Answer = self.post("/v1/apply", &submission).await?;
        self.submission.replace(Some(submission));
        answer.release.context("control sees no change in the stack file")
    }

    /// Reads the stack file with everything it refers to. The program is digested and copied the
    /// first time, which takes a while for a large one, so a thread does it.
    async fn read(&self, path: PathBuf) -> anyhow::Result<Submission> {
        let home = self.home.clone();
        let reader = std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || stackfile::read(&path, &home, stackfile::Files::Keep))
            .context("could not start a thread")?;
        self.reader.replace(Some(reader));
        outcome(&self.reader, "reading the stack file").await
    }

    /// Asks control, which may be restarting.
    pub(super) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + AWAY_MAX;
        loop {
            match timeout(ANSWER_MAX, self.client.get(path)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(client::CallError::Unreachable { .. } | client::CallError::Broken(_)))
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => bail!("control does not answer {path} within {} s", ANSWER_MAX.as_secs()),
            }
        }
    }

    /// Asks control once.
    pub(super) async fn try_get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        timeout(ANSWER_MAX, self.client.get(path)).await.ok()?.ok()
    }

    /// Tells control something.
    pub(super) async fn post<B: serde::Serialize + Sync, T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        let answer = timeout(ANSWER_MAX, self.client.post(path, body)).await;
        Ok(answer.with_context(|| format!("control does not answer {path}"))??)
    }

    pub(super) async fn status(&self) -> anyhow::Result<Status> {
        self.get("/v1/status").await
    }

    /// Waits until `look` finds what it looks for.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        most: Duration,
        mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + most;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let waits: Vec<WaitView> = self.try_get("/v1/why").await.unwrap_or_default();
                let why: Vec<String> = waits
                    .into_iter()
                    .map(|wait| match wait.last_error {
                        Some(error) => format!("{} (last: {error})", wait.what),
                        None => wait.what,
                    })
                    .collect();
                let why = if why.is_empty() { "nothing".to_owned() } else { why.join("; ") };
                bail!("{what}: not within {} s; control waits for {why}", most.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes everything down; returns the folder if it stays.
    pub(super) fn strike(mut self) -> anyhow::Result<Option<PathBuf>> {
        self.clear_away()?;
        Ok(self.keep.then(|| self.home.clone()))
    }

    fn clear_away(&mut self) -> anyhow::Result<()> {
        self.struck = true;
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        let struck = strike(&self.home);
        // After those who use it; also one that is still being made.
        drop(self.database.take());
        if let Some(maker) = self.maker.take() {
            drop(maker.join());
        }
        struck?;
        match self.folder.take().filter(|_| !self.keep) {
            Some(folder) => folder.close().context("could not remove the demo's folder"),
            None => Ok(()),
        }
    }
}

impl Drop for Stage {
    /// On every way out that is not the usual one: an error, a panic, Ctrl-C.
    fn drop(&mut self) {
        if self.struck {
            return;
        }
        if let Err(error) = self.clear_away() {
            crate::term::note(&format!("evenkeel: {error:#}"));
        }
        if self.keep {
            crate::term::note(&format!("logs and journal are in {}", self.home.display()));
        }
    }
}

/// What comes of some work.
async fn outcome<T>(work: &Work<T>, what: &str) -> anyhow::Result<T> {
    while work.borrow().as_ref().is_some_and(|it| !it.is_finished()) {
        tokio::time::sleep(LOOK).await;
    }
    let done = work.take().with_context(|| format!("nobody is {what}"))?;
    done.join().map_err(|_panic| anyhow!("{what} went wrong"))?
}

/// A port that nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    let mut ports = (0..PORTS_MAX).map(|_| fastrand::u16(PORTS));
    let free = ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.context("there is no free port for the edge")
}
