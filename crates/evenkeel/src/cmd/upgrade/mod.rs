//! `evenkeel upgrade`: every role on this machine is replaced by this program, one after the other,
//! in an order in which whoever starts the next is new already: the keeper starts control and edge,
//! control starts shims.
//!
//! What cannot be done is found before anything is. If something fails later, what runs goes on,
//! and the same command goes on where it stopped.

mod roles;
mod shims;
mod who;

use std::path::Path;

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::VersionView;
use evenkeel_edge::client::Client as Door;
use evenkeel_journal::{Journal, Kind};
use evenkeel_kernel::layout;
use evenkeel_kernel::time::Timestamp;
use serde::Serialize;

use super::Context;
use crate::cli::Upgrade;
use crate::exit::Exit;
use crate::{role, term};
pub(super) use who::{Who, is_ours};

/// One thing that was done.
#[derive(Debug, Serialize)]
struct Step {
    role: &'static str,
    /// Which of them, of a role of which there are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    before: Option<Who>,
    after: Option<Who>,
    text: String,
}

/// What it came to.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Whether every role runs this program now.
    done: bool,
    version: &'static str,
    program: String,
    /// Instances, and how many of them are the same processes as before.
    instances: usize,
    same: usize,
    /// Requests that were answered and that failed meanwhile, of all services.
    answered: u64,
    failed: u64,
    /// Edges that still hold something.
    leaving: Vec<u32>,
    text: String,
}

pub(super) async fn run(context: &Context<'_>, args: &Upgrade) -> anyhow::Result<Exit> {
    let home = context.home;
    if !["keeper", "control", "edge"].iter().any(|it| role::is_running(home, it)) {
        bail!("nothing runs here; `evenkeel up` starts this program");
    }
    check(context).await?;
    if args.check {
        return Ok(Exit::Done);
    }
    let instances = evenkeel_local::shims::all(home).context("could not look at the instances")?;
    let counted = counted(context);
    let job = roles::Job { context, again: args.again };
    say(context, &job.keeper().await?)?;
    say(context, &job.control().await?)?;
    say(context, &job.edge().await?)?;
    shims::replace(context, args.again).await?;
    conclude(context, &instances, counted)
}

/// Finds what would go wrong, while everything still runs.
async fn check(context: &Context<'_>) -> anyhow::Result<()> {
    let program = role::own_program()?;
    if !program.is_file() {
        bail!("{} is gone; roles could not be started from it", program.display());
    }
    let reads = evenkeel_control::FORMAT;
    let format = if role::is_running(context.home, "control") {
        let version = context.client.get::<VersionView>("/v1/version").await.context(
            "control does not answer, so it is not known whether this program can read its state",
        )?;
        version.format
    } else {
        saved_format(&context.home.join(layout::STATE), reads)
    };
    if let Some(refusal) = refusal(format, reads) {
        bail!("{refusal}");
    }
    evenkeel_edge::can_start(context.home)
        .with_context(|| format!("could not read {}", layout::EDGE_TABLE))?;
    let text = format!(
        "this is evenkeel {} ({}); it can read what is saved",
        env!("CARGO_PKG_VERSION"),
        program.display()
    );
    let step = Step { role: "check", instance: None, before: None, after: None, text };
    say(context, &step)
}

/// The format of what is saved, if it is newer than what this program reads; else zero, and whatever
/// is wrong with it is control's to say.
fn saved_format(state: &Path, reads: u32) -> u32 {
    let opened = Journal::open(state, reads).map(drop);
    if let Err(error) = opened
        && let Kind::Newer { found, .. } = error.kind
    {
        return found;
    }
    0
}

/// Why a state of this format must not be handed to a program that reads so far.
fn refusal(format: u32, reads: u32) -> Option<String> {
    (format > reads).then(|| {
        format!(
            "the state is saved in format {format}, and this program reads up to format {reads}: it \
             is older than what runs, and could not go on"
        )
    })
}

fn say(context: &Context<'_>, step: &Step) -> anyhow::Result<()> {
    if context.json {
        return term::json(step);
    }
    term::line(&format!("{:<8} {}", step.role, step.text));
    Ok(())
}

/// Requests that were answered and that failed, as the edge tells it; `None` when it does not.
fn counted(context: &Context<'_>) -> Option<(u64, u64)> {
    let edge = Door::connect(context.home).ok()?.observe(Timestamp::default()).ok()?;
    let failed: u64 = edge.pools.values().map(evenkeel_kernel::world::Counts::failed).sum();
    let requests: u64 = edge.pools.values().map(|it| it.requests).sum();
    let none = edge.unrouted.no_instance + edge.unrouted.overloaded;
    Some((requests - failed, failed + none))
}

fn conclude(
    context: &Context<'_>,
    before: &[evenkeel_local::shims::Shim],
    counted_before: Option<(u64, u64)>,
) -> anyhow::Result<Exit> {
    let now =
        evenkeel_local::shims::all(context.home).context("could not look at the instances")?;
    let same = |it: &&evenkeel_local::shims::Shim| now.iter().any(|other| it.keeps_what(other));
    let same = before.iter().filter(same).count();
    let (answered, failed) = match (counted_before, counted(context)) {
        (Some(before), Some(now)) => {
            (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
        }
        (_, _) => (0, 0),
    };
    let leaving = evenkeel_edge::leaving(context.home);
    let program = role::own_program()?.display().to_string();
    let all = before.len();
    let rest = match leaving.len() {
        0 => "nothing is left of what ran before".to_owned(),
        one_or_more => format!(
            "{one_or_more} former edge{} still hold{} requests and end{} by themselves",
            if one_or_more == 1 { "" } else { "s" },
            if one_or_more == 1 { "s" } else { "" },
            if one_or_more == 1 { "s" } else { "" },
        ),
    };
    let text = format!(
        "every role runs {program}; {same} of {all} instances are the processes they were; \
         {answered} requests were answered meanwhile, {failed} failed; {rest}"
    );
    let version = env!("CARGO_PKG_VERSION");
    let outcome = Outcome {
        done: true,
        version,
        program,
        instances: all,
        same,
        answered,
        failed,
        leaving,
        text,
    };
    if context.json {
        term::json(&outcome)?;
    } else {
        term::line(&format!("{:<8} {}", "done", outcome.text));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_read_the_state_is_refused() {
        assert_eq!(refusal(3, 3), None);
        assert_eq!(refusal(0, 3), None);
        assert!(refusal(4, 3).is_some_and(|it| it.contains("reads up to format 3")));
    }
}
