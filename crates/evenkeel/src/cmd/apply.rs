//! `evenkeel apply`: shows what would change, asks, releases, waits.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::bail;
use evenkeel_control::api::types::{Answer, PlanView, Submission};

use super::{Context, plan};
use crate::cli::Apply;
use crate::exit::Exit;
use crate::stackfile::{self, Files};
use crate::term;

/// Hazards that nobody walks into without having said yes.
const NEED_A_YES: [&str; 2] = ["mass-removal", "service-removed"];

pub(super) async fn run(context: &Context<'_>, args: &Apply) -> anyhow::Result<Exit> {
    let submission = read(context, args)?;
    let (answer, exit) = submit(context, &submission, args).await?;
    match exit {
        Some(exit) => Ok(exit),
        None => context.conclude(&answer, (!args.detach).then_some(args.wait)).await,
    }
}

/// Reads the stack file, and says everything that is wrong with it.
pub(super) fn read(context: &Context<'_>, args: &Apply) -> anyhow::Result<Submission> {
    let path = stackfile::find(args.file.file.as_deref())?;
    let read = stackfile::read(&path, context.home, Files::Keep)?;
    let submission = Submission {
        force: args.force,
        hotfix: args.hotfix.clone(),
        expect_destroy: args.expect_destroy,
        ..read
    };
    stackfile::check(&submission)?;
    Ok(submission)
}

/// Shows the plan, asks where that is due, and hands the stack in. An exit says that nothing was
/// handed in.
pub(super) async fn submit(
    context: &Context<'_>,
    submission: &Submission,
    args: &Apply,
) -> anyhow::Result<(Answer, Option<Exit>)> {
    let planned: PlanView = context.client.post("/v1/plan", submission).await?;
    if !planned.empty && !context.json {
        plan::show(&planned, args.force);
    }
    let held_back = planned.held_back.is_some() && !args.force;
    let refused = held_back || planned.locked.is_some() || planned.removal.is_some();
    // What would be refused is, by control, and nobody is asked first. Who names the number of
    // instances that go has said more than yes.
    let said_yes = args.yes || args.expect_destroy.is_some();
    if !said_yes && !refused && !consents(&planned)? {
        let text = "nothing was changed".to_owned();
        term::note(&text);
        return Ok((Answer { release: None, text, journal: 0 }, Some(Exit::Error)));
    }
    Ok((context.client.post("/v1/apply", submission).await?, None))
}

/// Whether the person, if there is one, says yes. A script need only say so for what destroys.
fn consents(plan: &PlanView) -> anyhow::Result<bool> {
    if plan.empty {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let grave: Vec<&str> = plan
            .hazards
            .iter()
            .filter(|hazard| NEED_A_YES.contains(&hazard.kind.as_str()))
            .map(|hazard| hazard.text.as_str())
            .collect();
        if !grave.is_empty() {
            bail!("this needs --yes: {}", grave.join("; "));
        }
        return Ok(true);
    }
    term::raw("\nRelease this? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
