//! `evenkeel scale`: sets how many instances services have.

use std::time::Duration;

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::{Answer, Scale, Status};

use super::Context;
use crate::cli;
use crate::exit::Exit;
use crate::term;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context<'_>, args: &cli::Scale) -> anyhow::Result<Exit> {
    let goals: Vec<Scale> =
        args.services.iter().map(|text| goal(text)).collect::<anyhow::Result<_>>()?;
    let status: Status = context.client.get("/v1/status").await?;
    refuse_mass_removal(&status, &goals, args.yes)?;
    for goal in &goals {
        let answer: Answer = context.client.post("/v1/scale", goal).await?;
        if context.json {
            term::json(&answer)?;
        } else {
            term::line(&answer.text);
        }
    }
    if !args.wait.detach {
        wait(context, &goals).await?;
    }
    Ok(Exit::Done)
}

/// `web=5`
fn goal(text: &str) -> anyhow::Result<Scale> {
    let parsed = text.split_once('=').and_then(|(service, count)| {
        let replicas = count.trim().parse().ok()?;
        Some(Scale { service: service.trim().to_owned(), replicas })
    });
    parsed.with_context(|| format!("{text:?} is not SERVICE=COUNT; write web=5"))
}

/// More than a quarter of a service goes only with a yes.
fn refuse_mass_removal(status: &Status, goals: &[Scale], yes: bool) -> anyhow::Result<()> {
    for goal in goals {
        let Some(service) = status.services.iter().find(|it| it.name == goal.service) else {
            continue;
        };
        let gone = service.replicas.saturating_sub(goal.replicas);
        if !yes && service.replicas > 2 && u64::from(gone) * 4 > u64::from(service.replicas) {
            bail!(
                "this stops {gone} of {} instances of {}; say so with --yes",
                service.replicas,
                goal.service
            );
        }
    }
    Ok(())
}

/// Waits until every service has what it is to have, and nothing is leaving.
async fn wait(context: &Context<'_>, goals: &[Scale]) -> anyhow::Result<()> {
    loop {
        let status: Status = context.client.get("/v1/status").await?;
        let reached = |goal: &Scale| {
            status.services.iter().find(|it| it.name == goal.service).is_none_or(|service| {
                service.replicas != goal.replicas
                    || service.pools.iter().filter(|pool| pool.weight > 0.0).all(|pool| {
                        pool.instances.len() == pool.size as usize && pool.ready >= pool.size
                    })
            })
        };
        if goals.iter().all(reached) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
