//! `evenkeel hold`, `unhold`: the requests of a service wait while something is exchanged.

use std::time::Duration;

use evenkeel_control::api::types::{Answer, Hold, Status, Unhold};

use super::Context;
use crate::cli;
use crate::exit::Exit;
use crate::term;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(context: &Context<'_>, args: cli::Hold) -> anyhow::Result<Exit> {
    let for_ms = u64::try_from(args.lasts.as_millis()).unwrap_or(u64::MAX);
    let request =
        Hold { service: args.service.clone(), for_ms: Some(for_ms), reason: args.reason.reason };
    let answer: Answer = context.client.post("/v1/hold", &request).await?;
    let exit = context.conclude(&answer, None).await?;
    if args.detach {
        return Ok(exit);
    }
    if is_quiet(context, &args.service).await? {
        if !context.json {
            term::line(&format!("{} answers nothing any more", args.service));
        }
        return Ok(Exit::Done);
    }
    anyhow::bail!("{}'s hold ended before what was under way was answered", args.service)
}

pub(super) async fn end(context: &Context<'_>, args: cli::Unhold) -> anyhow::Result<Exit> {
    let request = Unhold { service: args.service };
    let answer: Answer = context.client.post("/v1/unhold", &request).await?;
    context.conclude(&answer, None).await
}

/// Waits until nothing is under way. Returns false when the hold has ended before.
async fn is_quiet(context: &Context<'_>, name: &str) -> anyhow::Result<bool> {
    loop {
        let status: Status = context.client.get("/v1/status").await?;
        let service = status.services.iter().find(|it| it.name == name);
        let Some(hold) = service.and_then(|it| it.hold.as_ref()) else { return Ok(false) };
        if hold.in_force && hold.in_flight == Some(0) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK).await;
    }
}
