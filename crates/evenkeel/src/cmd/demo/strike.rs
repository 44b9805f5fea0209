//! Taking everything of a home down: in order while control answers, by force what is left.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::Answer;
use evenkeel_control::client::{CallError, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::cmd::{Context, down};

/// How long stopping in order may take.
const ORDERLY_MAX: Duration = Duration::from_secs(25);
/// How long the system may take to be rid of what was killed.
const KILL_MAX: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Stops instances and roles of `home` and waits until no process of it is left.
pub(super) fn strike(home: &Path) -> anyhow::Result<()> {
    // In a thread of its own, because it also runs while a runtime is being left.
    let ended = std::thread::scope(|scope| scope.spawn(|| orderly(home)).join());
    let deadline = Instant::now() + KILL_MAX;
    loop {
        let left = processes(home);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = match ended {
                Ok(Err(error)) => format!("; stopping in order failed: {error:#}"),
                Ok(Ok(())) | Err(_) => String::new(),
            };
            bail!("these processes of the demo do not end: {left:?}{why}");
        }
        for pid in left {
            // It may have ended meanwhile.
            kill_process(pid, Signal::KILL).ok();
        }
        std::thread::sleep(LOOK);
    }
}

/// What `evenkeel down` does.
fn orderly(home: &Path) -> anyhow::Result<()> {
    let context = Context { home, client: Client::new(home), json: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        timeout(ORDERLY_MAX, async {
            // It may be restarting, because the demo has just killed it.
            while crate::role::is_running(home, "keeper") {
                match context.client.post::<(), Answer>("/v1/stop-all", &()).await {
                    Err(CallError::Unreachable { .. } | CallError::Broken(_)) => {
                        tokio::time::sleep(LOOK).await;
                    }
                    answer => {
                        answer?;
                        break;
                    }
                }
            }
            down::stop_roles(&context).await
        })
        .await
        .context("it took too long")?
    })
}

/// The processes of this program that belong to `home`.
fn processes(home: &Path) -> Vec<Pid> {
    let own = std::process::id();
    let program = crate::role::own_program().ok();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && belongs(*pid, home, program.as_deref()))
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

/// Whether a process runs a program kept in `home`, or this program for it: everything the demo
/// starts does one or the other, and the name of its home is drawn at random.
fn belongs(pid: u32, home: &Path, own: Option<&Path>) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    // What has ended and only waits to be collected has none.
    let Ok(program) = std::fs::read_link(proc.join("exe")) else { return false };
    if program.starts_with(home) {
        return true;
    }
    let text = program.to_string_lossy();
    // Linux appends this to the name of a file that has been replaced since.
    let program = Path::new(text.strip_suffix(" (deleted)").unwrap_or(&text));
    let name = home.as_os_str().as_encoded_bytes();
    let names_it = |file: &str| {
        std::fs::read(proc.join(file))
            .is_ok_and(|text| text.windows(name.len()).any(|window| window == name))
    };
    // Roles and shims are told their home; an instance knows it as its working folder alone.
    let works_there = || std::fs::read_link(proc.join("cwd")).is_ok_and(|it| it.starts_with(home));
    own == Some(program) && (names_it("cmdline") || names_it("environ") || works_there())
}
