//! Scaling: sizes follow the load, each pool's its own.
//!
//! While no release is under way this changes how many instances the service is to have. While one
//! is, pools only grow: the old one must be able to take everything back until the point of no
//! return, and the new one may be given more than its step has.

use std::sync::Arc;

use super::Deciding;
use crate::model::{RevisionNumber, ServiceName, Weight};
use crate::release::judge::Seen;
use crate::release::scale::{Part, Subject, told};
use crate::release::state::State;
use crate::scaling::Watch;
use crate::time::human;

impl Deciding<'_> {
    /// Gives every pool that scales the size that its load asks for.
    pub(super) fn scale(&mut self) {
        let subjects = self.state.subjects();
        self.state.forget_watches(&subjects);
        let Some(seen) = Seen::of(self.world) else {
            // Time that nobody watched is none in which fewer were enough.
            return self.state.scaling.clear();
        };
        for subject in subjects {
            self.scale_pool(&subject, seen);
        }
    }

    fn scale_pool(&mut self, subject: &Subject, seen: Seen<'_>) {
        let Subject { scale, size, shrinks, .. } = subject;
        if *size == 0 {
            return self.wake(subject, seen);
        }
        let measured = self.state.measured(subject, seen);
        let idle = self.state.idle_since(subject, &measured, seen);
        if idle.is_some_and(|since| self.moment.now.since(since) >= scale.zero_after) {
            return self.send_to_sleep(subject);
        }
        let needed = subject.need(&measured);
        let nothing = Watch::default();
        let watch = self.state.watch(subject).unwrap_or(&nothing);
        let step = watch.step(scale, *size, needed, *shrinks, self.moment.now);
        let Some(step) = step else { return };
        self.state.remember_watch(subject, step.watch);
        let Some(to) = step.size else { return };
        let pool = match subject.part {
            Part::Whole => subject.name.to_string(),
            Part::Old | Part::New => format!("{} {}", subject.name, subject.revision),
        };
        let load = told(&measured);
        let bit_by_bit =
            subject.part != Part::Whole && self.state.is_replaced_bit_by_bit(&subject.name);
        let text = match bit_by_bit {
            true => format!("{pool} has {size} instances and needs {to}, which makes room: {load}"),
            false => format!("{pool} scales from {size} to {to} instances: {load}"),
        };
        self.note("scale.changed", text);
        match subject.part {
            Part::Whole => self.state.set_size(&subject.name, to),
            Part::Old | Part::New if bit_by_bit => {
                self.state.make_room(&subject.name, to.saturating_sub(*size));
            }
            Part::Old => self.state.grow_old(&subject.name, to),
            Part::New => {
                self.resize_to_at_least(&subject.name, subject.revision, to);
                self.state.grow_new(&subject.name, subject.revision, to);
            }
        }
    }
}

impl Deciding<'_> {
    /// A service without instances gets one as soon as somebody asks for it.
    fn wake(&mut self, subject: &Subject, seen: Seen<'_>) {
        let Subject { name, part, .. } = subject;
        let waiting = seen.edge.demand.get(name).map_or(0, |it| it.waiting);
        if *part != Part::Whole || waiting == 0 {
            return;
        }
        let wait = if waiting == 1 { "request waits" } else { "requests wait" };
        self.note("scale.changed", format!("{name} wakes: {waiting} {wait} for it"));
        self.state.scaling.remove(name);
        self.state.set_size(name, 1);
    }

    fn send_to_sleep(&mut self, subject: &Subject) {
        let Subject { name, scale, size, .. } = subject;
        let long = human(scale.zero_after);
        let text =
            format!("{name} scales from {size} to 0 instances: nobody asked for it for {long}");
        self.note("scale.changed", text);
        self.state.scaling.remove(name);
        self.state.set_size(name, 0);
    }
}

impl State {
    /// Drops what is remembered of pools that do not scale any more.
    fn forget_watches(&mut self, subjects: &[Subject]) {
        if self.scaling.is_empty() {
            return;
        }
        let is_there = |name: &ServiceName, revision: RevisionNumber| {
            subjects.iter().any(|it| it.name == *name && it.revision == revision)
        };
        for (name, watches) in &mut self.scaling {
            watches.retain(|revision, _| is_there(name, *revision));
        }
        self.scaling.retain(|_, watches| !watches.is_empty());
    }

    fn remember_watch(&mut self, subject: &Subject, watch: Watch) {
        let watches = self.scaling.entry(subject.name.clone()).or_default();
        watches.insert(subject.revision, watch);
    }

    /// A service that no rollout moves gets another size. A release that is under way elsewhere
    /// leaves it as it is then.
    fn set_size(&mut self, name: &ServiceName, size: u32) {
        if let Some(service) = self.services.get_mut(name) {
            service.replicas = size;
        }
        self.want_size(name, |_| size);
    }

    /// The revision that is left grows. The one that takes over has to carry as much in the end.
    fn grow_old(&mut self, name: &ServiceName, size: u32) {
        if let Some(service) = self.services.get_mut(name) {
            service.replicas = service.replicas.max(size);
        }
        self.want_size(name, |wanted| wanted.max(size));
    }

    /// The revision that takes over grows. Once it has all the traffic, the one that is left must
    /// be able to carry as much, should everything go back.
    fn grow_new(&mut self, name: &ServiceName, revision: RevisionNumber, size: u32) {
        if self.services.get(name).is_some_and(|it| it.weight(revision) == Weight::ALL) {
            self.pin_old(name, size);
        }
        self.want_size(name, |wanted| wanted.max(size));
    }

    /// One revision takes the places of the other: there are `more` of them.
    fn make_room(&mut self, name: &ServiceName, more: u32) {
        self.want_size(name, |wanted| wanted.saturating_add(more));
        let rollout = self.release.as_deref().and_then(|release| release.rollouts.get(name));
        let wanted = rollout.map_or(0, |rollout| rollout.replicas);
        self.pin_old(name, wanted);
    }

    /// The revision that is left can carry as much as `size` can, within its own bounds. One that
    /// did not scale before is as large as people said, and nobody would make it smaller again.
    fn pin_old(&mut self, name: &ServiceName, size: u32) {
        let scale = self.stack.services.get(name).and_then(|it| it.scale.as_ref());
        let Some(size) = scale.map(|scale| scale.within(size)) else { return };
        if let Some(service) = self.services.get_mut(name).filter(|it| it.stable.is_some()) {
            service.replicas = service.replicas.max(size);
        }
    }

    /// Changes what the release under way wants of the size of a service, within its bounds.
    fn want_size(&mut self, name: &ServiceName, size: impl Fn(u32) -> u32) {
        let Some(release) = self.release_mut() else { return };
        let Some(described) = release.wanted.services.get(name) else { return };
        // Without scaling by then it is as large as its file says.
        let Some(scale) = &described.scale else { return };
        let size = scale.within(size(described.replicas));
        if let Some(rollout) = release.rollouts.get_mut(name) {
            rollout.replicas = size;
        }
        if size != described.replicas
            && let Some(described) = Arc::make_mut(&mut release.wanted).services.get_mut(name)
        {
            described.replicas = size;
        }
    }
}
