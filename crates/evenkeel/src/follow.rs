//! Waits for a release and shows how it goes.

use std::time::{Duration, Instant};

use evenkeel_control::api::types::{Answer, Event, ReleaseView, WaitView};
use evenkeel_control::client::{CallError, Client};

use crate::cli::WaitFor;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// Time between two looks at the release.
const LOOK: Duration = Duration::from_millis(100);
/// How long control may be away, for example while it is restarted, before the wait is given up.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// What can be done about a release that is held.
const HELD: &str = "          `evenkeel why` says more; `evenkeel resume` watches on, `evenkeel promote` \
                    goes on all the same, `evenkeel abort` goes back";

/// Waits until the release of an answer is promoted, complete or taken back, and shows what the
/// journal says of it from that answer on.
pub(crate) async fn release(
    client: &Client,
    answer: &Answer,
    wait: WaitFor,
    json: bool,
) -> anyhow::Result<Exit> {
    let Some(id) = answer.release else { return Ok(Exit::Done) };
    let mut shown =
        Shown { after: answer.journal, json, live: !json && term::has_colour(), drawn: false };
    let mut away_since: Option<Instant> = None;
    loop {
        let release: ReleaseView = match client.get(&format!("/v1/releases/{id}")).await {
            Ok(release) => release,
            Err(CallError::Unreachable { .. } | CallError::Broken(_))
                if away_since.get_or_insert_with(Instant::now).elapsed() < AWAY_MAX =>
            {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        away_since = None;
        shown.events(client, id).await;
        if let Some(exit) = ended(&release, wait) {
            shown.clear();
            conclude(&release, json)?;
            return Ok(exit);
        }
        shown.waiting(client, &release).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// How the wait ends, if it does.
fn ended(release: &ReleaseView, wait: WaitFor) -> Option<Exit> {
    match (&release.outcome, wait) {
        (Some(_), _) if release.promoted => Some(Exit::Done),
        (Some(_), _) => Some(Exit::TakenBack),
        (None, WaitFor::Promoted) if release.promoted => Some(Exit::Done),
        (None, WaitFor::Promoted | WaitFor::Complete) => None,
    }
}

/// What has been shown already.
struct Shown {
    after: u64,
    json: bool,
    live: bool,
    drawn: bool,
}

impl Shown {
    async fn events(&mut self, client: &Client, id: u64) {
        let path = format!("/v1/journal?after={}", self.after);
        let events: Vec<Event> = client.get(&path).await.unwrap_or_default();
        for event in events {
            self.after = event.seq;
            if event.release != Some(id) {
                continue;
            }
            self.clear();
            if self.json {
                drop(term::json(&event));
            } else {
                let at = paint(Tone::Dim, &term::clock(event.at_ms));
                term::line(&format!("{at}  {}", event.text));
                if event.kind == "release.held" {
                    term::line(&paint(Tone::Warn, HELD));
                }
            }
        }
    }

    /// One line in place that says what is waited for.
    async fn waiting(&mut self, client: &Client, release: &ReleaseView) {
        if !self.live {
            return;
        }
        let waits: Vec<WaitView> = client.get("/v1/why").await.unwrap_or_default();
        let what = waits.first().map_or(release.phase.clone(), |wait| wait.what.clone());
        self.clear();
        term::raw(&paint(Tone::Dim, &format!("          … {what}")));
        self.drawn = true;
    }

    fn clear(&mut self) {
        if self.drawn {
            term::raw("\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// The last word on a release.
fn conclude(release: &ReleaseView, json: bool) -> anyhow::Result<()> {
    if json {
        return term::json(release);
    }
    let id = release.id;
    if !release.promoted {
        let outcome = release.outcome.as_deref().unwrap_or("taken back");
        let because = release.because.as_deref().unwrap_or("no reason is known");
        term::line(&paint(Tone::Bad, &format!("release #{id} {outcome}: {because}")));
        return Ok(());
    }
    term::line(&paint(Tone::Good, &format!("release #{id} is promoted")));
    let Some(bake) = release.bake.as_ref().filter(|_| release.phase == "baking") else {
        return Ok(());
    };
    let until = term::clock(bake.until_ms);
    for rollout in &release.rollouts {
        let Some(from) = &rollout.from else { continue };
        let (service, warm) = (&rollout.service, rollout.warm);
        term::line(&match warm {
            0 => format!("{service} {from} is kept until {until}; `evenkeel rollback` rebuilds it"),
            1 => format!(
                "{service} {from} stays warm (1 instance) until {until}; `evenkeel rollback` is \
                 instant until then"
            ),
            _ => format!(
                "{service} {from} stays warm ({warm} instances) until {until}; `evenkeel rollback` \
                 is instant until then"
            ),
        });
    }
    Ok(())
}
