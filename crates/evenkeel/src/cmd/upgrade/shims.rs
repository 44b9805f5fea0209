//! The shims, one after the other. Each becomes this program in the same process, so that its
//! instance stays its child.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use evenkeel_local::shims::{self, Shim};

use super::roles::within;
use super::who::is_ours;
use super::{Context, Step, Who, say};
use crate::role;

/// How long a shim may take until it answers as this program; it takes milliseconds.
const ANSWERS_MAX: Duration = Duration::from_secs(10);
/// Between two words of how far it is, where there are many.
const WORD: Duration = Duration::from_secs(5);

pub(super) async fn replace(context: &Context<'_>, again: bool) -> anyhow::Result<()> {
    let all = shims::all(context.home).context("could not look at the instances")?;
    let command = role::shim_command()?;
    let (mut stay, mut new, mut left) = (0_usize, 0_usize, 0_usize);
    let mut said = Instant::now();
    for shim in &all {
        if is_ours(shim.pid) && !again {
            stay += 1;
        } else if shim.ends {
            left += 1;
        } else if one(context, shim, &command).await? {
            new += 1;
        } else {
            left += 1;
        }
        if said.elapsed() >= WORD {
            said = Instant::now();
            say(context, &step(format!("{} of {}", stay + new + left, all.len())))?;
        }
    }
    let rest = [(stay, "run this program already"), (left, "keep what ends, and go with it")];
    let rest = rest.iter().filter(|(count, _)| *count > 0);
    let rest: String = rest.map(|(count, what)| format!("; {count} {what}")).collect();
    say(context, &step(format!("{new} of {} replaced{rest}", all.len())))
}

/// Makes one shim this program. Returns false where its instance ends meanwhile.
async fn one(context: &Context<'_>, shim: &Shim, command: &[String]) -> anyhow::Result<bool> {
    let ends = || shims::of(context.home, &shim.instance).is_none_or(|it| it.ends);
    let who = |pid| Who { pid, version: None, program: None };
    match shim.be(command) {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) if ends() => return Ok(false),
        Ok(Err(because)) => bail!("the shim of {} goes on as it is: {because}", shim.instance),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("could not ask the shim of {}", shim.instance));
        }
    }
    let found = within(ANSWERS_MAX, || {
        let now = shims::of(context.home, &shim.instance);
        let now = now.filter(|it| is_ours(it.pid) && it.answers());
        now.map(Some).or_else(|| ends().then_some(None))
    });
    match found.await {
        Some(Some(now)) => {
            let version = Some(env!("CARGO_PKG_VERSION").to_owned());
            let done = Step {
                role: "shim",
                instance: Some(shim.instance.to_string()),
                before: Some(who(shim.pid)),
                after: Some(Who { version, ..who(now.pid) }),
                text: format!("{}, process {}", shim.instance, now.pid),
            };
            if context.json {
                say(context, &done)?;
            }
            Ok(true)
        }
        Some(None) => Ok(false),
        None => bail!(
            "the shim of {} does not answer as this program; its instance goes on, and control \
             starts another shim if it is gone",
            shim.instance
        ),
    }
}

fn step(text: String) -> Step {
    Step { role: "shims", instance: None, before: None, after: None, text }
}
