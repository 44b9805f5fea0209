//! `evenkeel history`: the releases, one release with its ledger, or the journal.

use evenkeel_control::api::types::{Event, ReleaseView};

use super::{Context, status};
use crate::cli::History;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// Journal entries read at once.
const PAGE: usize = 1_000;

pub(super) async fn run(context: &Context<'_>, args: &History) -> anyhow::Result<Exit> {
    match (args.release, args.journal) {
        (Some(id), _) => one(context, id).await?,
        (None, true) => {
            let events = journal(context).await?;
            show_events(context, &events)?;
        }
        (None, false) => all(context).await?,
    }
    Ok(Exit::Done)
}

async fn all(context: &Context<'_>) -> anyhow::Result<()> {
    let releases: Vec<ReleaseView> = context.client.get("/v1/releases").await?;
    if context.json {
        return term::json(&releases);
    }
    let head = ["RELEASE", "STARTED", "TOOK", "KIND", "BY", "MOVED", "OUTCOME"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for release in &releases {
        let because = release.because.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        rows.push(vec![
            format!("#{}", release.id),
            term::clock(release.started_ms),
            match &release.outcome {
                Some(_) => term::span(release.since_ms.saturating_sub(release.started_ms)),
                None => term::span(term::now_ms().saturating_sub(release.started_ms)),
            },
            release.kind.clone(),
            release.by.clone(),
            status::moved(release),
            format!("{}{because}", release.outcome.as_deref().unwrap_or(&release.phase)),
        ]);
    }
    for line in term::table(&rows) {
        term::line(&line);
    }
    Ok(())
}

async fn one(context: &Context<'_>, id: u64) -> anyhow::Result<()> {
    let release: ReleaseView = context.client.get(&format!("/v1/releases/{id}")).await?;
    let mut events = journal(context).await?;
    events.retain(|event| event.release == Some(id));
    if context.json {
        return term::json(&serde_json::json!({ "release": release, "journal": events }));
    }
    term::line(&status::release_line(&release));
    term::line("");
    show_events(context, &events)?;
    term::line("");
    for line in status::ledger_lines(&release.ledger) {
        term::line(&line);
    }
    Ok(())
}

pub(super) async fn journal(context: &Context<'_>) -> anyhow::Result<Vec<Event>> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event.seq);
        let path = format!("/v1/journal?after={after}&limit={PAGE}");
        let page: Vec<Event> = context.client.get(&path).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

fn show_events(context: &Context<'_>, events: &[Event]) -> anyhow::Result<()> {
    for event in events {
        if context.json {
            term::json(event)?;
            continue;
        }
        let release = event.release.map(|id| format!("#{id}")).unwrap_or_default();
        let at = paint(Tone::Dim, &term::clock(event.at_ms));
        term::line(&format!("{at}  {release:<4} {:<10} {}", event.actor, event.text));
    }
    Ok(())
}
