//! Starting the roles from a command: one keeper in the background, which starts the others.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::VersionView;
use evenkeel_control::client::Client;
use evenkeel_kernel::layout;

use super::claim;
use crate::home;

/// How long the roles may take until control answers.
const START_MAX: Duration = Duration::from_secs(20);
/// A log that is larger when its role starts is put aside.
const LOG_BYTES_MAX: u64 = 10 << 20;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Starts the roles of `home`, if they do not run, and waits until control answers. Returns
/// whether they were started.
pub(crate) async fn start(home: &Path) -> anyhow::Result<bool> {
    home::prepare(home)?;
    let mut started = false;
    let deadline = Instant::now() + START_MAX;
    let client = Client::new(home);
    let mut keeper = None;
    loop {
        if !claim::is_running(home, "keeper") && keeper.is_none() {
            keeper = Some(spawn_keeper(home)?);
            started = true;
        }
        if claim::is_running(home, "edge") && client.get::<VersionView>("/v1/version").await.is_ok()
        {
            return Ok(started);
        }
        if let Some(Some(status)) = keeper.as_mut().map(|child| child.try_wait().ok().flatten())
            && !claim::is_running(home, "keeper")
        {
            bail!("the keeper ended with {status}; {}", last_words(home, "keeper"));
        }
        if Instant::now() > deadline {
            bail!(
                "control does not answer after {} s; {}",
                START_MAX.as_secs(),
                last_words(home, "control")
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Starts a keeper in a session of its own.
pub(crate) fn spawn_keeper(home: &Path) -> anyhow::Result<Child> {
    spawn(home, "keeper", &["--detach"])
}

/// Starts a role of `home` in the background.
pub(super) fn spawn(home: &Path, role: &str, more: &[&str]) -> anyhow::Result<Child> {
    let log = open_log(home, role)?;
    let twin = log.try_clone().context("could not share a log")?;
    Command::new(super::own_program()?)
        .arg("role")
        .arg(role)
        .args(more)
        .arg("--home")
        .arg(home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(twin)
        .spawn()
        .with_context(|| format!("could not start the {role}"))
}

fn open_log(home: &Path, role: &str) -> anyhow::Result<File> {
    let path = home.join(layout::LOGS).join(format!("{role}.log"));
    if std::fs::metadata(&path).is_ok_and(|it| it.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, path.with_extension("log.1"))
            .with_context(|| format!("could not put {} aside", path.display()))?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))
}

/// What a role said last.
pub(crate) fn last_words(home: &Path, role: &str) -> String {
    let path = home.join(layout::LOGS).join(format!("{role}.log"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    match lines.is_empty() {
        true => format!("its log {} is empty", path.display()),
        false => format!("the end of {}:\n{}", path.display(), lines.join("\n")),
    }
}
