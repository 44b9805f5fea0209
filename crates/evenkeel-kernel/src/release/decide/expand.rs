//! Expanding: the new is started beside the old, and nothing is sent to it yet.

use std::time::Duration;

use super::Deciding;
use crate::model::{JobWhen, PoolId, ServiceName};
use crate::plan::dependency_order;
use crate::release::judge::Seen;
use crate::release::state::{Phase, Release, Rollout, service_listener};
use crate::world::SchemaTarget;

impl Deciding<'_> {
    /// Runs the jobs that come before, starts the first instances of every new revision, those that
    /// are used before those that use them, and goes on once all are ready.
    pub(super) fn expand(&mut self, release: &Release) {
        let order = dependency_order(&release.wanted.services);
        // Nothing that reads the new shape of a database runs before that is whole: not all that runs
        // waits for traffic.
        let shaped = match release.paused {
            None => self.schemas_reach(release, SchemaTarget::Ready),
            Some(_) => release.schemas_are(self.world, SchemaTarget::Ready),
        };
        let jobs_done = shaped && self.run_jobs(release, JobWhen::Before);
        let needed = release.needed_by_jobs();
        let mut all_ready = jobs_done && Seen::of(self.world).is_some() && self.listeners_open();
        let starts = |name: &&ServiceName| shaped && (jobs_done || needed.contains(*name));
        for name in release.order.iter().filter(starts) {
            // Without a port there is no rollout; the release then ends for lack of progress.
            let rollout = release.rollouts.get(name);
            let rollout = rollout.filter(|_| self.uses_are_ready(release, &order, name));
            let ready = rollout.is_some_and(|rollout| self.first_are_ready(name, rollout));
            // What calls it is traffic too, so its first checks come before.
            let checked =
                |it: &&Rollout| release.hurried || release.awaited_check(name, it).is_none();
            if ready
                && needed.contains(name)
                && let Some(rollout) = rollout.filter(checked)
            {
                self.open_for_jobs(name, rollout);
            }
            all_ready &= ready;
        }
        for (name, replicas) in self.resized(release) {
            all_ready &= self.has_grown(&name, replicas);
        }
        let checked = release.hurried || release.checks_have_passed();
        if all_ready && checked && release.paused.is_none() {
            self.enter(Phase::Shifting { service: 0, step: 0 });
        }
    }

    /// Starts the first instances of one new revision. Returns whether they are ready.
    fn first_are_ready(&mut self, name: &ServiceName, rollout: &Rollout) -> bool {
        let first = rollout.first_size();
        self.resize_to_at_least(name, rollout.to, first);
        Seen::of(self.world).is_some_and(|seen| {
            let situation = self.state.situation(name, rollout, seen, self.moment.now);
            situation.new.ready >= first
        })
    }

    /// Lets the stable revision grow. Returns whether it is as large as wanted.
    fn has_grown(&mut self, name: &ServiceName, replicas: u32) -> bool {
        let stable = self.state.services.get(name).and_then(|service| service.stable);
        let Some(stable) = stable else { return true };
        self.resize_to_at_least(name, stable, replicas);
        Seen::of(self.world).is_some_and(|seen| {
            let pool = PoolId::new(name, stable);
            self.state.side(&pool, Duration::ZERO, seen, self.moment.now).ready >= replicas
        })
    }

    /// Services whose number of instances rises without a new revision.
    fn resized(&self, release: &Release) -> Vec<(ServiceName, u32)> {
        let wanted = release.wanted.services.iter();
        wanted
            .filter(|(name, _)| !release.rollouts.contains_key(*name))
            .filter(|(name, service)| {
                self.state.services.get(*name).is_some_and(|it| service.replicas > it.replicas)
            })
            .map(|(name, service)| (name.clone(), service.replicas))
            .collect()
    }

    fn listeners_open(&self) -> bool {
        let Some(edge) = self.world.edge.known() else { return false };
        self.state.listeners().keys().all(|name| edge.listeners.contains(name))
    }

    /// Whether everything the service uses has an instance that answers. Services in a circle do
    /// not wait for one another.
    fn uses_are_ready(&self, release: &Release, order: &[ServiceName], name: &ServiceName) -> bool {
        let place = |of: &ServiceName| order.iter().position(|it| it == of);
        let Some(service) = release.wanted.services.get(name) else { return true };
        let before = service.workload.uses.iter().filter(|used| place(used) < place(name));
        before.into_iter().all(|used| self.answers_new(release, name, used))
    }

    /// Whether what the new revision of `name` is sent to when it calls `used` answers. Its door must
    /// be open: an instance is not told of another port while it runs.
    fn answers_new(&self, release: &Release, name: &ServiceName, used: &ServiceName) -> bool {
        let Some(seen) = Seen::of(self.world) else { return false };
        // A door to what is not there any more is not opened.
        let there = self.state.services.get(used).is_some_and(|service| service.is_there());
        let mut ways = self.state.ways_of(name).filter(|way| way.used == used);
        let open = !there || ways.all(|way| seen.edge.listeners.contains(&way.listener()));
        let follows = release.rollouts.get(used).filter(|rollout| rollout.follows);
        open && match follows {
            None => self.answers(release, used),
            Some(rollout) => {
                let pool = PoolId::new(used, rollout.to);
                self.state.side(&pool, Duration::ZERO, seen, self.moment.now).ready > 0
            }
        }
    }

    pub(super) fn answers(&self, release: &Release, used: &ServiceName) -> bool {
        let Some(deployed) = self.state.services.get(used) else { return true };
        if deployed.stable.is_some() {
            return true;
        }
        let Some(rollout) = release.rollouts.get(used) else { return true };
        Seen::of(self.world).is_some_and(|seen| {
            let pool = PoolId::new(used, rollout.to);
            seen.edge.listeners.contains(&service_listener(used))
                && self.state.side(&pool, Duration::ZERO, seen, self.moment.now).ready > 0
        })
    }
}
