//! Databases in a plan: where they are, and how their schema changes.

use std::collections::BTreeSet;

use super::{Change, ChangeAction, FieldChange, Plan};
use crate::lint::{Hazard, HazardKind};
use crate::model::{Database, DatabaseName, Stack};

/// Adds what changes between the databases of two stacks.
pub(super) fn plan(old: &Stack, new: &Stack, plan: &mut Plan) {
    let names: BTreeSet<&DatabaseName> = old.databases.keys().chain(new.databases.keys()).collect();
    let mut first = Vec::new();
    for name in names {
        let (before, after) = (old.databases.get(name), new.databases.get(name));
        let fields = fields(before, after);
        let action = match (before, after) {
            (None, _) => ChangeAction::Create,
            (Some(_), None) => ChangeAction::Remove,
            (Some(_), Some(_)) if fields.is_empty() => continue,
            (Some(_), Some(_)) => ChangeAction::Change,
        };
        let component = format!("database.{name}");
        plan.changes.push(Change { component, action, revision: None, fields });
        if let Some(change) = after.and_then(|it| it.change.as_deref()) {
            first.extend(change.expand.iter().map(|it| format!("database {name}: {it}")));
            plan.contract.extend(change.contract.iter().map(|it| format!("database {name}: {it}")));
            plan.destroys.extend(change.loses.iter().map(|it| format!("database {name}: {it}")));
        }
    }
    // Nothing that reads the new shape starts before it is there.
    plan.expand.splice(0..0, first);
}

/// What is dangerous about the schemas that change.
pub(super) fn hazards(wanted: &Stack) -> Vec<Hazard> {
    let all = wanted.databases.iter().filter_map(|(name, it)| Some((name, it.change.as_ref()?)));
    all.flat_map(|(name, change)| {
        change.hazards.iter().map(move |text| Hazard {
            kind: HazardKind::SchemaChange,
            component: format!("database.{name}"),
            text: format!("{name}: {text}"),
        })
    })
    .collect()
}

fn fields(before: Option<&Database>, after: Option<&Database>) -> Vec<FieldChange> {
    let shown = |database: Option<&Database>, key: &str| {
        let database = database?;
        match key {
            "migrations" => database.migrations.clone(),
            "desired" => database.desired.clone(),
            "schema" => (database.schema != Database::SCHEMA).then(|| database.schema.clone()),
            "owner" => database.owner.as_ref().map(ToString::to_string),
            "url" => Some(database.url.to_string()),
            _ => database.change.as_ref().map(|it| match it.files.as_slice() {
                [] => "views of the schema as it is".to_owned(),
                files => files.join(", "),
            }),
        }
    };
    let all =
        ["change", "desired", "migrations", "owner", "schema", "url"].map(|key| FieldChange {
            field: key.to_owned(),
            from: shown(before, key).filter(|_| key != "change"),
            to: shown(after, key),
        });
    all.into_iter().filter(|field| field.from != field.to).collect()
}
