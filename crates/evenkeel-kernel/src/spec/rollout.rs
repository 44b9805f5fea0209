//! Rollouts: strategies, profiles and steps, and which keys go with which.

use std::time::Duration;

use super::check::Fields;
use super::checks;
use super::problem::{Mistake, Mistakes};
use super::schema::Key;
use super::traffic;
use crate::model::{Analysis, Exposure, NoData, Rollout, Share, Step, Strategy, Tolerance, Weight};

/// How long a step is watched when it does not say: the first step of `standard`.
pub(crate) const STEP_BAKE: Duration = Duration::from_secs(300);

/// A ready-made series of steps.
///
/// The profiles of the design for many places are told here for one: where `careful` would take
/// one machine, then one group of machines after another, it takes parts of the traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    name: &'static str,
    /// Percent of the traffic, and for how many minutes.
    steps: &'static [(u16, u64)],
    min_ready: Option<Duration>,
    bake: Option<Duration>,
}

impl Profile {
    pub(crate) const NAMES: &'static [&'static str] = &["standard", "careful", "hotfix"];

    const STANDARD: Self = Self {
        name: "standard",
        steps: &[(1, 5), (5, 5), (25, 10), (50, 10)],
        min_ready: None,
        bake: None,
    };
    const CAREFUL: Self = Self {
        name: "careful",
        steps: &[(1, 60), (10, 12 * 60), (25, 4 * 60), (50, 2 * 60)],
        min_ready: Some(Duration::from_secs(60)),
        bake: Some(Duration::from_secs(12 * 3600)),
    };
    const HOTFIX: Self = Self { name: "hotfix", steps: &[(10, 1)], min_ready: None, bake: None };

    fn of(fields: &Fields) -> Option<&'static Self> {
        if fields.field("steps").is_some() {
            return None;
        }
        let name = fields.text("profile").map_or("standard", String::as_str);
        [&Self::STANDARD, &Self::CAREFUL, &Self::HOTFIX].into_iter().find(|it| it.name == name)
    }

    fn steps(&self) -> Vec<Step> {
        self.steps
            .iter()
            .map(|(percent, minutes)| Step {
                exposure: Exposure::Weight(Weight(percent * 100)),
                bake: Duration::from_secs(minutes * 60),
                gate: None,
            })
            .collect()
    }
}

/// Builds the rollout of one service.
pub(crate) fn build(
    fields: Option<&Fields>,
    base: &str,
    replicas: u32,
    exclusive: bool,
    mistakes: &mut Mistakes,
) -> Rollout {
    let preset = Rollout::default();
    let Some(fields) = fields else {
        return Rollout { strategy: rolling(None, replicas, exclusive, mistakes), ..preset };
    };
    let known = fields.field("strategy").is_none() || fields.text("strategy").is_some();
    let name = fields.text("strategy").map_or("rolling", String::as_str);
    if known {
        foreign_keys(fields, name, mistakes);
    }
    if exclusive && known && name != "rolling" {
        let wrong = format!("an exclusive service cannot be rolled out by `{name}`");
        mistakes.add(
            Mistake::at(&fields.place("strategy"), &fields.at("strategy"), wrong)
                .expected("`rolling`, which stops the old instance before it starts the new one"),
        );
    }
    let strategy = match name {
        "blue-green" => Strategy::BlueGreen { preview: fields.text("preview").cloned() },
        "canary" => Strategy::Canary { steps: canary(fields, base, replicas, mistakes) },
        _ => rolling(Some(fields), replicas, exclusive, mistakes),
    };
    let checks = checks::build(fields.named("check"), base, mistakes);
    if let Strategy::Rolling { max_surge, .. } = strategy
        && max_surge.ceil(replicas) == 0
    {
        checks::nothing_before(fields.named("check"), mistakes);
    }
    let profile = if name == "canary" { Profile::of(fields) } else { None };
    let span = |key: &str, profiled: Option<Duration>, preset: Duration| {
        fields.span(key).copied().or(profiled).unwrap_or(preset)
    };
    Rollout {
        strategy,
        min_ready: span("min_ready", profile.and_then(|it| it.min_ready), preset.min_ready),
        start_deadline: span("start_deadline", None, preset.start_deadline),
        progress_deadline: span("progress_deadline", None, preset.progress_deadline),
        failure_budget: fields.count("failure_budget").or(preset.failure_budget),
        bake: span("bake", profile.and_then(|it| it.bake), preset.bake),
        auto_rollback: fields.flag("auto_rollback").copied().unwrap_or(preset.auto_rollback),
        analysis: fields.table("analysis").map_or_else(Analysis::default, analysis),
        checks,
        affinity: affinity(fields, exclusive, mistakes),
        exposed: traffic::exposed(fields, exclusive, mistakes),
    }
}

fn affinity(fields: &Fields, exclusive: bool, mistakes: &mut Mistakes) -> bool {
    let affinity = fields.flag("affinity").copied().unwrap_or(false);
    if affinity && exclusive {
        let wrong = "both revisions of an exclusive service never run at the same time";
        let mistake = Mistake::at(&fields.place("affinity"), &fields.at("affinity"), wrong);
        mistakes.add(mistake.expected("no `affinity`, or no `exclusive`"));
    }
    affinity && !exclusive
}

fn analysis(fields: &Fields) -> Analysis {
    let preset = Analysis::default();
    let tolerance = fields.weight("tolerance").map(|by| Tolerance::more(*by));
    Analysis {
        tolerance: tolerance.unwrap_or(preset.tolerance),
        min_requests: fields.long("min_requests").copied().or(preset.min_requests),
        no_data: match fields.text("no_data").map(String::as_str) {
            Some("promote") => NoData::Promote,
            Some(_) | None => preset.no_data,
        },
        warm_up: fields.span("warm_up").copied().unwrap_or(preset.warm_up),
        latency: fields.flag("latency").copied().unwrap_or(preset.latency),
    }
}

/// Keys of another strategy would be without effect, which nobody wants to find out in a release.
fn foreign_keys(fields: &Fields, strategy: &str, mistakes: &mut Mistakes) {
    let table = super::keys::rollout();
    let foreign = |key: &&Key| key.strategy.is_some_and(|owner| owner != strategy);
    for key in table.keys.iter().filter(foreign) {
        let (Some(field), Some(owner)) = (fields.field(key.name), key.strategy) else { continue };
        let wrong = format!("`{}` belongs to strategy `{owner}`, this is `{strategy}`", key.name);
        let hint = match fields.field("strategy") {
            Some(_) => None,
            None => Some(format!("write `strategy = \"{owner}\"`")),
        };
        mistakes.add(Mistake::at(&field.key, &fields.at(key.name), wrong).hint(hint));
    }
}

fn rolling(
    fields: Option<&Fields>,
    replicas: u32,
    exclusive: bool,
    mistakes: &mut Mistakes,
) -> Strategy {
    let (preset_surge, preset_unavailable) = match (exclusive, Strategy::default()) {
        (false, Strategy::Rolling { max_surge, max_unavailable }) => (max_surge, max_unavailable),
        (_, _) => (Share::Count(0), Share::Count(1)),
    };
    let share = |key: &str| fields.and_then(|it| it.share(key)).copied();
    let max_surge = share("max_surge").unwrap_or(preset_surge);
    let max_unavailable = share("max_unavailable").unwrap_or(preset_unavailable);
    if let Some(fields) = fields {
        limits(fields, (max_surge, max_unavailable), replicas, exclusive, mistakes);
    }
    Strategy::Rolling { max_surge, max_unavailable }
}

fn limits(
    fields: &Fields,
    (max_surge, max_unavailable): (Share, Share),
    replicas: u32,
    exclusive: bool,
    mistakes: &mut Mistakes,
) {
    let valid = |key| fields.field(key).is_none() || fields.share(key).is_some();
    if !valid("max_surge") || !valid("max_unavailable") {
        return;
    }
    let (surge, unavailable) = (max_surge.ceil(replicas), max_unavailable.floor(replicas));
    if exclusive && surge > 0 {
        let wrong = format!("an exclusive service cannot have a `max_surge` of {max_surge}");
        mistakes.add(
            Mistake::at(&fields.place("max_surge"), &fields.at("max_surge"), wrong)
                .expected("`0`, as only one instance may run at a time"),
        );
    } else if surge == 0 && unavailable == 0 {
        let key = fields.first(&["max_unavailable", "max_surge"]).map_or("max_surge", |it| it.0);
        let wrong = format!(
            "with `max_surge` {surge} and `max_unavailable` {unavailable} of {replicas} no \
             instance could ever be replaced"
        );
        mistakes.add(
            Mistake::at(&fields.place(key), &fields.at(key), wrong)
                .expected("at least one of them to be 1 or more")
                .hint("`max_unavailable = 1` replaces one instance at a time".to_owned()),
        );
    }
}

fn canary(fields: &Fields, base: &str, replicas: u32, mistakes: &mut Mistakes) -> Vec<Step> {
    if let (Some(profile), Some(_)) = (fields.field("profile"), fields.field("steps")) {
        let wrong = "`profile` and `steps` exclude each other";
        mistakes.add(
            Mistake::at(&profile.key, &fields.at("profile"), wrong)
                .expected("either of them")
                .hint("a profile is a ready-made list of steps".to_owned()),
        );
    }
    match (fields.list("steps"), Profile::of(fields)) {
        (Some(list), _) => steps(list, base, replicas, mistakes),
        (None, Some(profile)) => profile.steps(),
        (None, None) => Vec::new(),
    }
}

fn steps(list: &[Fields], base: &str, replicas: u32, mistakes: &mut Mistakes) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(list.len());
    for fields in list {
        let Some(exposure) = exposure(fields, mistakes) else { continue };
        let bake = fields.span("bake").copied().unwrap_or(STEP_BAKE);
        let gate = super::freeze::gate(fields, base, mistakes);
        let step = Step { exposure, bake, gate };
        if let Exposure::Instances(count) = exposure
            && count >= replicas.max(2)
        {
            let wrong = format!("{count} of {replicas} instances are all of them");
            mistakes.add(
                Mistake::at(&fields.place("instances"), &fields.at("instances"), wrong)
                    .expected("fewer instances than `replicas`"),
            );
        }
        if let Some(before) = steps.last()
            && share(before.exposure, replicas) >= share(exposure, replicas)
        {
            let wrong = format!(
                "{} after {} is no step forward",
                told(exposure, replicas),
                told(before.exposure, replicas)
            );
            mistakes.add(Mistake::at(&fields.span, &fields.path, wrong).expected("rising steps"));
        }
        steps.push(step);
    }
    steps
}

fn exposure(fields: &Fields, mistakes: &mut Mistakes) -> Option<Exposure> {
    match (fields.field("weight"), fields.field("instances")) {
        (Some(_), None) => fields.weight("weight").map(|weight| Exposure::Weight(*weight)),
        (None, Some(_)) => fields.count("instances").map(Exposure::Instances),
        (Some(_), Some(both)) => {
            let wrong = "this step has both `weight` and `instances`";
            mistakes.add(Mistake::at(&both.key, &fields.path, wrong).expected("either of them"));
            None
        }
        (None, None) => {
            let wrong = "this step has neither `weight` nor `instances`";
            mistakes.add(
                Mistake::at(&fields.span, &fields.path, wrong)
                    .expected("either of them")
                    .hint("write `weight = \"5%\"`".to_owned())
                    .absence(),
            );
            None
        }
    }
}

fn share(exposure: Exposure, replicas: u32) -> Weight {
    match exposure {
        Exposure::Weight(weight) => weight,
        Exposure::Instances(count) => Weight::of(count, replicas),
    }
}

fn told(exposure: Exposure, replicas: u32) -> String {
    match exposure {
        Exposure::Weight(weight) => weight.to_string(),
        Exposure::Instances(count) => format!("{count} of {replicas} instances"),
    }
}
