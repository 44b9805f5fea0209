//! Who is told what happens: what changes about it. No traffic moves for it.

use std::collections::BTreeSet;

use super::{Change, ChangeAction, FieldChange, Plan};
use crate::model::{Receiver, ReceiverName, Stack};

/// Adds what changes between the receivers of two stacks.
pub(super) fn plan(old: &Stack, new: &Stack, plan: &mut Plan) {
    let names: BTreeSet<&ReceiverName> = old.notify.keys().chain(new.notify.keys()).collect();
    for name in names {
        let (before, after) = (old.notify.get(name), new.notify.get(name));
        let (action, says) = match (before, after) {
            (None, Some(after)) => {
                let says = format!("tell {name} what happens ({})", after.to.key());
                (ChangeAction::Create, says)
            }
            (Some(_), None) => (ChangeAction::Remove, format!("tell {name} nothing more")),
            (Some(before), Some(after)) if before != after => {
                (ChangeAction::Change, format!("tell {name} otherwise"))
            }
            _ => continue,
        };
        match action {
            ChangeAction::Create | ChangeAction::Change => plan.expand.push(says),
            ChangeAction::Remove => plan.contract.push(says),
        }
        plan.changes.push(Change {
            component: format!("notify.{name}"),
            action,
            revision: None,
            fields: fields(before, after),
        });
    }
}

/// The fields that differ, as far as they may be shown: of URLs the host, of secrets where they
/// come from and a digest.
fn fields(before: Option<&Receiver>, after: Option<&Receiver>) -> Vec<FieldChange> {
    let shown = |receiver: Option<&Receiver>, key: &str| {
        let receiver = receiver?;
        match key {
            "secret" => receiver.secret.as_ref().map(ToString::to_string),
            "events" => (!receiver.events.is_empty()).then(|| receiver.events.join(", ")),
            way => (receiver.to.key() == way).then(|| receiver.to.to_string()),
        }
    };
    let keys = ["command", "events", "secret", "slack", "webhook"];
    let all = keys.map(|key| FieldChange {
        field: key.to_owned(),
        from: shown(before, key),
        to: shown(after, key),
    });
    all.into_iter().filter(|field| field.from != field.to).collect()
}
