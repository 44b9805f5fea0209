//! `evenkeel restart`: replaces instances by fresh ones of the same content, as a rollout.

use evenkeel_control::api::types::{Answer, Restart};

use super::Context;
use crate::cli::{self, WaitFor};
use crate::exit::Exit;

pub(super) async fn run(context: &Context<'_>, args: cli::Restart) -> anyhow::Result<Exit> {
    let request = Restart { services: args.services, force: args.force };
    let answer: Answer = context.client.post("/v1/restart", &request).await?;
    context.conclude(&answer, (!args.wait.detach).then_some(WaitFor::Promoted)).await
}
