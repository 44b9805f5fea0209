//! `evenkeel plan`: what applying the stack file would change.

use evenkeel_control::api;
use evenkeel_control::api::types::{ChangeView, PlanView};
use evenkeel_control::client::CallError;
use evenkeel_kernel::layout;

use super::Context;
use crate::cli::File;
use crate::exit::Exit;
use crate::stackfile::{self, Files};
use crate::term::{self, Tone, paint};

pub(super) async fn run(context: &Context<'_>, args: &File) -> anyhow::Result<Exit> {
    let path = stackfile::find(args.file.as_deref())?;
    let submission = stackfile::read(&path, context.home, Files::LookAt)?;
    let stack = stackfile::check(&submission)?;
    let plan: PlanView = match context.client.post("/v1/plan", &submission).await {
        Ok(plan) => plan,
        // Where nothing was ever released, everything is to be created.
        Err(CallError::Unreachable { .. }) if !was_used(context) => {
            api::plan_from_nothing(&stack, &submission)
        }
        Err(error) => return Err(error.into()),
    };
    if context.json {
        term::json(&plan)?;
    } else {
        show(&plan, false);
    }
    Ok(if plan.empty { Exit::Done } else { Exit::Changes })
}

/// Whether there has been a control in this home.
fn was_used(context: &Context<'_>) -> bool {
    context.home.join(layout::STATE).join(evenkeel_journal::FILE).exists()
}

/// Shows a plan.
pub(super) fn show(plan: &PlanView, forced: bool) {
    if let Some(id) = plan.on_its_way {
        return term::line(&format!(
            "nothing changes: release #{id} is on its way to this already"
        ));
    }
    if plan.empty {
        return term::line("nothing changes");
    }
    if let Some(reason) = &plan.held_back {
        let text = match forced {
            true => paint(Tone::Warn, &format!("released again because of --force: {reason}")),
            false => paint(Tone::Bad, &format!("refused without --force: {reason}")),
        };
        term::line(&text);
        term::line("");
    }
    if let Some(reason) = &plan.locked {
        term::line(&paint(Tone::Bad, &format!("refused without --hotfix: {reason}")));
        if let Some(hint) = &plan.locked_hint {
            term::line(&format!("  {hint}"));
        }
        term::line("");
    }
    if let Some(reason) = &plan.removal {
        let text = format!("refused without --expect-destroy {}: {reason}", plan.gone);
        term::line(&paint(Tone::Bad, &text));
        term::line("");
    }
    if let Some(before) = &plan.before {
        term::line(&paint(Tone::Warn, &format!("first: {before}")));
        term::line("");
    }
    for change in &plan.changes {
        show_change(change);
    }
    for (phase, lines) in
        [("expand", &plan.expand), ("shift", &plan.shift), ("contract", &plan.contract)]
    {
        for (i, line) in lines.iter().enumerate() {
            let head = if i == 0 { phase } else { "" };
            term::line(&format!("{head:<10}{line}"));
        }
    }
    if !plan.destroys.is_empty() {
        let count = plan.destroys.len();
        term::line("");
        term::line(&paint(Tone::Bad, &format!("destroyed by contract ({count}):")));
        for name in &plan.destroys {
            term::line(&format!("  - {name}"));
        }
    }
    if !plan.hazards.is_empty() {
        term::line("");
        for hazard in &plan.hazards {
            let head = paint(Tone::Warn, &format!("hazard {}", hazard.kind));
            term::line(&format!("{head}: {}", hazard.text));
        }
    }
    term::line("");
    term::line(&format!(
        "plan: {} to create, {} to change, {} to remove",
        plan.create, plan.change, plan.remove
    ));
    if plan.promotion_ms + plan.bake_ms > 0 {
        let promotion = term::span(plan.promotion_ms);
        let bake = match plan.bake_ms {
            0 => String::new(),
            bake => format!(", and {} more until what it replaces is stopped", term::span(bake)),
        };
        term::line(&format!("it takes at least {promotion} until it is promoted{bake}"));
    }
}

fn show_change(change: &ChangeView) {
    let (sign, tone) = match change.action.as_str() {
        "create" => ("+", Tone::Good),
        "remove" => ("-", Tone::Bad),
        _ => ("~", Tone::Warn),
    };
    let revision = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("  {from} -> {to}"),
        (None, Some(to)) => format!("  {to}"),
        _ => String::new(),
    };
    let head = format!("{sign} {} {}{revision}", change.action, change.component);
    term::line(&paint(tone, &head));
    let width = change.fields.iter().map(|field| field.field.len()).max().unwrap_or(0);
    for field in &change.fields {
        let name = format!("{:<width$}", field.field);
        let text = match (&field.from, &field.to) {
            (Some(from), Some(to)) => format!("  ~ {name}  {from} -> {to}"),
            (None, Some(to)) => format!("  + {name}  {to}"),
            (Some(from), None) => format!("  - {name}  {from}"),
            (None, None) => continue,
        };
        term::line(&text);
    }
    term::line("");
}
