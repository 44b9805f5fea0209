//! `evenkeel down`: stops every instance and every role. The state stays; `up` brings all back.

use std::time::{Duration, Instant};

use anyhow::bail;
use evenkeel_control::api::types::{Answer, VersionView};
use evenkeel_control::client::CallError;
use rustix::process::{Pid, Signal, kill_process};

use super::Context;
use crate::cli::Down;
use crate::exit::Exit;
use crate::{role, term};

/// How long the roles may take to end: the edge drains meanwhile.
const END_MAX: Duration = Duration::from_secs(40);
/// Longer than any grace there can be.
const STOP_MAX: Duration = Duration::from_secs(2 * 3600);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn run(context: &Context<'_>, args: &Down) -> anyhow::Result<Exit> {
    let running = ["keeper", "control", "edge"].iter().any(|it| role::is_running(context.home, it));
    if !running {
        say(context, "nothing runs here")?;
        return Ok(Exit::Done);
    }
    if !args.keep_instances {
        // The instances' own graces decide how long this takes; control ends the wait itself.
        let client = context.client.clone().unhurried(STOP_MAX);
        let stopped = match context.client.get::<VersionView>("/v1/version").await {
            Ok(_alive) => client.post::<(), Answer>("/v1/stop-all", &()).await,
            Err(error) => Err(error),
        };
        match stopped {
            Ok(_) => {}
            Err(error @ (CallError::Unreachable { .. } | CallError::Broken(_))) => {
                bail!(anyhow::Error::from(error).context(
                    "control does not answer, so instances cannot be stopped; \
                     `evenkeel down --keep-instances` stops the roles alone"
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    stop_roles(context).await?;
    say(context, if args.keep_instances { "the roles are stopped" } else { "all is stopped" })?;
    Ok(Exit::Done)
}

/// Ends the keeper, which ends the others; what is left without a keeper is ended by itself.
pub(super) async fn stop_roles(context: &Context<'_>) -> anyhow::Result<()> {
    let deadline = Instant::now() + END_MAX;
    for name in ["keeper", "control", "edge"] {
        let Some(pid) = role::pid_of(context.home, name) else { continue };
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // If it is gone already, that is what is wanted.
            kill_process(pid, Signal::TERM).ok();
        }
        while role::is_running(context.home, name) {
            if Instant::now() > deadline {
                bail!("{name} does not end; its log is in {}/logs", context.home.display());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

fn say(context: &Context<'_>, text: &str) -> anyhow::Result<()> {
    if context.json {
        return term::json(&serde_json::json!({ "text": text }));
    }
    term::line(text);
    Ok(())
}
