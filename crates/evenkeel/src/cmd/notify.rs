//! `evenkeel notify`: who is told what happens, how far they are, and whether they can be reached.

use std::time::Duration;

use evenkeel_control::api::types::{Answer, ReceiverView};

use super::Context;
use crate::cli::{Notify, NotifyWhat};
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// How long a try may take: a command has 30 seconds.
const TRY_MAX: Duration = Duration::from_secs(45);

pub(super) async fn run(context: &Context<'_>, args: &Notify) -> anyhow::Result<Exit> {
    match &args.what {
        Some(NotifyWhat::Test { name }) => {
            let client = context.client.clone().unhurried(TRY_MAX);
            // What is no name stays one part of the path, and is refused as such.
            let name = name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '-'), "_");
            let path = format!("/v1/notify/{name}/test");
            let answer: Answer = client.post(&path, &()).await?;
            context.conclude(&answer, None).await
        }
        None => {
            let receivers: Vec<ReceiverView> = context.client.get("/v1/notify").await?;
            match context.json {
                true => term::json(&receivers)?,
                false => show(&receivers),
            }
            Ok(Exit::Done)
        }
    }
}

fn show(receivers: &[ReceiverView]) {
    if receivers.is_empty() {
        return term::line(
            "nobody is told; describe a receiver as [notify.NAME] in the stack file",
        );
    }
    let head = ["RECEIVER", "KIND", "TO", "EVENTS", "TAKEN", "BEHIND", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for it in receivers {
        let signed = if it.signed { ", signed" } else { "" };
        rows.push(vec![
            it.name.clone(),
            format!("{}{signed}", it.kind),
            it.to.clone(),
            match it.events.as_slice() {
                [] => "told to everybody".to_owned(),
                events => events.join(" "),
            },
            it.taken_ms.map_or_else(|| "never".to_owned(), ago),
            it.behind.to_string(),
            trouble(it),
        ]);
    }
    for line in term::table(&rows) {
        term::line(&line);
    }
}

/// What is wrong with a receiver, if anything is.
fn trouble(it: &ReceiverView) -> String {
    let failing = it.last_error.as_ref().map(|error| {
        let since = it.failing_since_ms.map(ago).unwrap_or_default();
        paint(Tone::Bad, &format!("failing since {since}, {} tries: {error}", it.tries))
    });
    let given_up = (it.given_up > 0).then(|| format!("{} given up", it.given_up));
    failing.into_iter().chain(given_up).collect::<Vec<_>>().join("; ")
}

fn ago(at_ms: u64) -> String {
    format!("{} ago", term::span(term::now_ms().saturating_sub(at_ms)))
}
