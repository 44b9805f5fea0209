//! `evenkeel why`: what is waited for, since when, until when, and what would help.

use evenkeel_control::api::types::{ReleaseView, Status, WaitView};

use super::{Context, status};
use crate::exit::Exit;
use crate::term;

pub(super) async fn run(context: &Context<'_>) -> anyhow::Result<Exit> {
    let waits: Vec<WaitView> = context.client.get("/v1/why").await?;
    if context.json {
        term::json(&waits)?;
        return Ok(Exit::Done);
    }
    let now: Status = context.client.get("/v1/status").await?;
    if let Some(release) = &now.release {
        term::line(&status::release_line(release));
    }
    if waits.is_empty() {
        term::line("nothing is waited for");
        let releases: Vec<ReleaseView> = context.client.get("/v1/releases").await?;
        if let Some(last) = releases.first().filter(|last| !last.promoted) {
            term::line(&format!("last: {}", status::release_line(last)));
            term::line(&format!("  `evenkeel explain {}` tells how it came to that", last.id));
        }
    }
    for wait in &waits {
        for line in status::wait_lines(wait, now.at_ms) {
            term::line(&line);
        }
    }
    Ok(Exit::Done)
}
