//! `evenkeel pause`, `resume`, `promote`, `abort`, `rollback`: a person steers the release.

use anyhow::Context as _;
use evenkeel_control::api::types::{Answer, Approve, Lock, Promote, Reason, ReleaseView, Rollback};

use super::Context;
use crate::cli::{self, Wait, WaitFor};
use crate::exit::Exit;
use crate::follow;

pub(super) async fn pause(context: &Context<'_>, args: cli::Reason) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/pause", &Reason { reason: args.reason }).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn resume(context: &Context<'_>) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/resume", &()).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn promote(context: &Context<'_>, args: &cli::Promote) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/promote", &Promote { full: args.full }).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn approve(context: &Context<'_>, args: cli::Approve) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/approve", &Approve { force: args.force }).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn lock(context: &Context<'_>, args: cli::Lock) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/lock", &Lock { reason: args.reason }).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn unlock(context: &Context<'_>) -> anyhow::Result<Exit> {
    let answer: Answer = context.client.post("/v1/unlock", &()).await?;
    context.conclude(&answer, None).await
}

pub(super) async fn abort(context: &Context<'_>, args: cli::Abort) -> anyhow::Result<Exit> {
    let reason = Reason { reason: args.reason.reason };
    let answer: Answer = context.client.post("/v1/abort", &reason).await?;
    back(context, &answer, &args.wait).await
}

pub(super) async fn rollback(context: &Context<'_>, args: cli::Rollback) -> anyhow::Result<Exit> {
    let revision = args.revision.as_deref().map(number).transpose()?;
    let (service, reason) = (args.service, args.reason.reason);
    let request = Rollback { service, revision, force: args.force, reason };
    let answer: Answer = context.client.post("/v1/rollback", &request).await?;
    back(context, &answer, &args.wait).await
}

/// Waits for the way back. That a release was taken back is what was asked for, so it is done.
async fn back(context: &Context<'_>, answer: &Answer, wait: &Wait) -> anyhow::Result<Exit> {
    context.conclude(answer, None).await?;
    let Some(id) = answer.release.filter(|_| !wait.detach) else { return Ok(Exit::Done) };
    let release: ReleaseView = context.client.get(&format!("/v1/releases/{id}")).await?;
    let exit = follow::release(&context.client, answer, WaitFor::Promoted, context.json).await?;
    match (release.phase.as_str(), exit) {
        // The release under way was to be taken back, and was.
        ("turning back" | "ended", Exit::TakenBack) => Ok(Exit::Done),
        _ => Ok(exit),
    }
}

/// The number in `r3` or `3`.
fn number(text: &str) -> anyhow::Result<u32> {
    text.strip_prefix('r')
        .unwrap_or(text)
        .parse()
        .with_context(|| format!("{text:?} is not a revision; write r3"))
}
