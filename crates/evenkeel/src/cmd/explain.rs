//! `evenkeel explain`: what was decided in a release, when, by whom and why, read from the journal.

use anyhow::bail;
use evenkeel_control::api::types::{Event, ReleaseView};
use serde::Serialize;

use super::{Context, history, status};
use crate::cli;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// One decision.
#[derive(Debug, Serialize)]
struct Decision<'a> {
    /// When it was made.
    at_ms: u64,
    /// How long after the release had started.
    after_ms: u64,
    /// A stable name: `step.passed`, `release.turned-back`.
    kind: &'a str,
    /// Who made it.
    by: &'a str,
    /// What, and why.
    text: &'a str,
}

pub(super) async fn run(context: &Context<'_>, args: &cli::Explain) -> anyhow::Result<Exit> {
    let releases: Vec<ReleaseView> = context.client.get("/v1/releases").await?;
    let found = match args.release {
        Some(id) => releases.iter().find(|release| release.id == id),
        None => releases.first(),
    };
    let Some(release) = found else {
        bail!("no such release is remembered; `evenkeel history` lists those that are");
    };
    let mut events = history::journal(context).await?;
    events.retain(|event| event.release == Some(release.id));
    let decisions: Vec<Decision<'_>> =
        events.iter().map(|event| decision(event, release)).collect();
    if context.json {
        term::json(&serde_json::json!({ "release": release, "decisions": decisions }))?;
        return Ok(Exit::Done);
    }
    term::line(&paint(Tone::Bold, &status::release_line(release)));
    term::line("");
    let rows: Vec<Vec<String>> = decisions.iter().map(row).collect();
    for line in term::table(&rows) {
        term::line(&line);
    }
    let judged = status::judged_rows(release);
    if judged.len() > 1 {
        term::line("");
        for line in term::table(&judged) {
            term::line(&line);
        }
    }
    Ok(Exit::Done)
}

fn decision<'a>(event: &'a Event, release: &ReleaseView) -> Decision<'a> {
    Decision {
        at_ms: event.at_ms,
        after_ms: event.at_ms.saturating_sub(release.started_ms),
        kind: &event.kind,
        by: &event.actor,
        text: &event.text,
    }
}

fn row(decision: &Decision<'_>) -> Vec<String> {
    let text = match decision.kind {
        "release.turned-back" | "release.held" | "release.frozen" | "gate.forced" => {
            paint(Tone::Bad, decision.text)
        }
        "step.passed" | "release.promoted" => paint(Tone::Good, decision.text),
        _ => decision.text.to_owned(),
    };
    vec![
        paint(Tone::Dim, &term::clock(decision.at_ms)),
        format!("+{}", term::span(decision.after_ms)),
        decision.by.to_owned(),
        text,
    ]
}
