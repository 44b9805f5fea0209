//! `evenkeel up`: starts the roles, and releases the stack.

use std::time::{Duration, Instant};

use anyhow::bail;
use evenkeel_control::api::types::Status;

use super::{Context, apply};
use crate::cli::Apply;
use crate::exit::Exit;
use crate::{role, term};

/// How long the instances of a stack that needs no release may take until they are ready.
const READY_MAX: Duration = Duration::from_secs(300);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context<'_>, args: &Apply) -> anyhow::Result<Exit> {
    // A file with problems is noticed before anything is started.
    let submission = apply::read(context, args)?;
    let started = role::start(context.home).await?;
    if started && !context.json {
        term::line(&format!("the roles are started; home is {}", context.home.display()));
    }
    let (answer, exit) = apply::submit(context, &submission, args).await?;
    let wait = (!args.detach).then_some(args.wait);
    if exit.is_none() && answer.release.is_none() && wait.is_some() {
        ready(context).await?;
    }
    match exit {
        Some(exit) => Ok(exit),
        None => context.conclude(&answer, wait).await,
    }
}

/// Waits until every service has all of its instances ready: after `down` they start again without
/// any release.
async fn ready(context: &Context<'_>) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        let status: Status = context.client.get("/v1/status").await?;
        let missing: Vec<&str> = status
            .services
            .iter()
            .filter(|service| service.ready < service.replicas)
            .map(|service| service.name.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not ready yet: {}; `evenkeel why` says what is waited for", missing.join(", "));
        }
        tokio::time::sleep(LOOK).await;
    }
}
