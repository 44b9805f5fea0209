//! The floor under removals: an edit that takes most of a service away, or all of one that serves,
//! is most often a slip, so it must name how many instances go.

use super::Now;
use crate::model::Stack;

/// Services of fewer instances may lose more than half of them: of three to one is a usual change.
const FLOOR_MIN: u32 = 4;

/// The instances that a change takes away for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// How many, of all services together.
    pub gone: u32,
    /// How many there are now.
    pub of: u32,
    /// Why that must be said in so many words; empty if it need not be.
    pub because: Vec<String>,
}

/// What the change from what is there `now` to `wanted` takes away.
#[must_use]
pub fn removal(now: &Now<'_>, wanted: &Stack) -> Removal {
    let mut removal = Removal::default();
    for (name, deployed) in &now.services {
        let before = deployed.replicas;
        removal.of = removal.of.saturating_add(before);
        let Some(stays) = wanted.services.get(*name).map(|service| service.replicas) else {
            removal.gone = removal.gone.saturating_add(before);
            if now.stack.serves(name) {
                removal.because.push(format!("{name} serves traffic and is removed"));
            }
            continue;
        };
        let gone = before.saturating_sub(stays);
        removal.gone = removal.gone.saturating_add(gone);
        if before >= FLOOR_MIN && u64::from(gone) * 2 > u64::from(before) {
            removal.because.push(format!("{name} loses {gone} of its {before} instances"));
        }
    }
    removal
}

impl Removal {
    /// Why the change is refused when its sender expects so many instances to go; `None` if it is
    /// not.
    #[must_use]
    pub fn refuses(&self, expected: Option<u32>) -> Option<String> {
        let Self { gone, of, because } = self;
        let goes = if *gone == 1 { "instances goes" } else { "instances go" };
        match expected {
            Some(expected) if expected == *gone => None,
            Some(expected) => {
                Some(format!("{gone} of {of} {goes} for good, and {expected} were expected to"))
            }
            None if because.is_empty() => None,
            None => Some(format!("{gone} of {of} {goes} for good: {}", because.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{RevisionNumber, ServiceName};
    use crate::plan::Deployed;

    /// Services of so many instances each, of which `web` is routed.
    fn stack(services: &[(&str, u32)]) -> Stack {
        let tables: String = services
            .iter()
            .map(|(name, replicas)| {
                format!("[service.{name}]\nrun = \"x\"\nreplicas = {replicas}\n")
            })
            .collect();
        let route = match services.iter().any(|(name, _)| *name == "web") {
            true => "[route.web]\nto = \"web\"\n",
            false => "",
        };
        let (stack, problems) =
            crate::spec::read(&format!("stack = \"s\"\n{tables}{route}"), "/srv");
        stack.unwrap_or_else(|| panic!("{problems:?}"))
    }

    fn check(before: &[(&str, u32)], after: &[(&str, u32)], expected: Option<&str>) {
        let (before, after) = (stack(before), stack(after));
        let deployed = |(name, service): (_, &crate::model::Service)| {
            (name, Deployed { revision: RevisionNumber(1), replicas: service.replicas })
        };
        let services: BTreeMap<&ServiceName, Deployed> =
            before.services.iter().map(deployed).collect();
        let now = Now { stack: &before, services, next: BTreeMap::new(), leads_back: false };
        let removal = removal(&now, &after);
        assert_eq!(removal.refuses(None).as_deref(), expected);
        // Whoever names the number may do it, and whoever names another is told.
        assert_eq!(removal.refuses(Some(removal.gone)), None);
        assert!(removal.refuses(Some(removal.gone + 1)).is_some());
    }

    #[test]
    fn s11_an_edit_that_removes_most_of_a_service_must_name_how_many_go() {
        let floor = "100 of 110 instances go for good: web loses 100 of its 110 instances";
        check(&[("web", 110)], &[("web", 10)], Some(floor));
        check(&[("web", 110)], &[("web", 55)], None);
        check(&[("web", 4)], &[("web", 2)], None);
        let one = "3 of 4 instances go for good: web loses 3 of its 4 instances";
        check(&[("web", 4)], &[("web", 1)], Some(one));
        // Few instances, and services that nobody asks anything, are a usual change.
        check(&[("web", 3)], &[("web", 1)], None);
        check(&[("web", 2), ("mail", 9)], &[("web", 2)], None);
        // The last of what serves.
        let all = "1 of 3 instances goes for good: web serves traffic and is removed";
        check(&[("web", 1), ("mail", 2)], &[("mail", 2)], Some(all));
        // Everything that goes is counted, whatever of it breaks the floor.
        let both = "7 of 12 instances go for good: web loses 6 of its 8 instances";
        check(&[("web", 8), ("mail", 4)], &[("web", 2), ("mail", 3)], Some(both));
    }
}
