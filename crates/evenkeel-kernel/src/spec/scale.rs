//! Scaling: its bounds and targets, and what of a service they must agree with.

use super::check::Fields;
use super::problem::{Mistake, Mistakes};
use crate::model::{Scale, Weight};

/// Builds the scaling of one service.
pub(crate) fn build(fields: &Fields, mistakes: &mut Mistakes) -> Scale {
    let min = fields.count("min").unwrap_or(1);
    // Without a `max` that can be read there is a mistake already, and nothing to compare with.
    let max = fields.count("max").unwrap_or(u32::MAX);
    if min > max {
        let wrong = format!("`min` is {min} and `max` is {max}");
        mistakes.add(
            Mistake::at(&fields.place("max"), &fields.at("max"), wrong)
                .expected(format!("at least {min}")),
        );
    }
    let in_flight = fields.count("in_flight");
    let cpu = fields.weight("cpu").copied();
    if cpu == Some(Weight::NONE) {
        mistakes.add(
            Mistake::at(&fields.place("cpu"), &fields.at("cpu"), "`cpu` is nothing")
                .expected("a part such as \"70%\""),
        );
    }
    let untold = fields.first(&["in_flight", "cpu"]).is_none();
    Scale {
        min,
        max,
        in_flight: in_flight.or(untold.then_some(Scale::IN_FLIGHT)),
        cpu,
        up_after: fields.span("up_after").copied().unwrap_or(Scale::UP_AFTER),
        down_after: fields.span("down_after").copied().unwrap_or(Scale::DOWN_AFTER),
        zero_after: fields.span("zero_after").copied().unwrap_or(Scale::ZERO_AFTER),
    }
}

/// Says where a service and its scaling do not go together.
pub(crate) fn agree(
    fields: &Fields,
    scale: Option<&Scale>,
    exclusive: bool,
    mistakes: &mut Mistakes,
) {
    let Some(scale) = scale else { return };
    if exclusive && let Some(field) = fields.field("scale") {
        let wrong = "an exclusive service cannot scale";
        mistakes.add(
            Mistake::at(&field.key, &fields.at("scale"), wrong)
                .expected("no `scale`, as only one instance may run at a time"),
        );
        return;
    }
    let Some(replicas) = fields.count("replicas").filter(|it| !scale.allows(*it)) else { return };
    if scale.min <= scale.max {
        let wrong = format!("it begins with {replicas} instances, and scales between {scale}");
        let wrong = wrong.replace(" to ", " and ");
        mistakes.add(
            Mistake::at(&fields.place("replicas"), &fields.at("replicas"), wrong)
                .expected(format!("a number from {scale}")),
        );
    }
}
