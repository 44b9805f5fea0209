//! Which instances are to be worked on, and when: by time, and by name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use evenkeel_kernel::model::InstanceId;

/// Every instance once, with its time.
#[derive(Default)]
pub(super) struct Due {
    times: BTreeMap<InstanceId, Instant>,
    order: BTreeSet<(Instant, InstanceId)>,
}

impl Due {
    /// Makes an instance due at `at`, whatever it waited for.
    pub(super) fn set(&mut self, id: InstanceId, at: Instant) {
        self.remove(&id);
        self.order.insert((at, id.clone()));
        self.times.insert(id, at);
    }

    /// Makes an instance due at `at`, unless it waits for something already.
    pub(super) fn set_if_idle(&mut self, id: InstanceId, at: Instant) {
        if !self.times.contains_key(&id) {
            self.set(id, at);
        }
    }

    pub(super) fn remove(&mut self, id: &InstanceId) -> Option<Instant> {
        let (id, at) = self.times.remove_entry(id)?;
        self.order.remove(&(at, id));
        Some(at)
    }

    /// The one that is due first among those that are not `busy`.
    pub(super) fn first(&self, busy: &BTreeSet<InstanceId>) -> Option<(InstanceId, Instant)> {
        let free = self.order.iter().find(|(_, id)| !busy.contains(id));
        free.map(|(at, id)| (id.clone(), *at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_due_once_and_the_first_one_first() {
        let id = |name: &str| name.parse::<InstanceId>().unwrap();
        let (one, two) = (id("web.r1.1"), id("web.r1.2"));
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut due = Due::default();
        due.set(one.clone(), later);
        due.set(two.clone(), start + Duration::from_millis(1));
        due.set_if_idle(one.clone(), start);
        assert_eq!(due.first(&BTreeSet::new()).unwrap().0, two);
        assert_eq!(due.first(&[two.clone()].into()), Some((one.clone(), later)));
        due.set(one.clone(), start);
        assert_eq!(due.first(&BTreeSet::new()), Some((one.clone(), start)));
        assert_eq!(due.remove(&one), Some(start));
        assert_eq!(due.remove(&one), None);
        assert_eq!(due.first(&[two].into()), None);
    }
}
