//! Baking: a release is watched for as long as it is healthy.

use std::time::Duration;

use super::Deciding;
use crate::model::{JobWhen, PoolId};
use crate::release::judge::Seen;
use crate::release::state::Release;

/// Healthy time is added to the durable state in portions of this size, so that a crash costs at
/// most one portion and a bake costs at most one commit a second.
const BAKE_PORTION: Duration = Duration::from_secs(1);
/// A longer gap between two looks was not watched and does not count as healthy time.
const GAP_MAX: Duration = Duration::from_secs(5);

impl Deciding<'_> {
    /// Watches the promoted release; then the point of no return.
    pub(super) fn bake_out(&mut self, release: &Release) {
        for (name, rollout) in &release.rollouts {
            self.resize_to_at_least(name, rollout.to, rollout.replicas);
        }
        let Some(seen) = Seen::of(self.world) else { return };
        if seen.edge.serving.generation < self.state.generation {
            return self.stop_bake();
        }
        let jobs_done = self.run_jobs(release, JobWhen::After);
        if !self.bake(self.state.bake(release)) || !jobs_done {
            return;
        }
        if !release.bake.waived && !release.checks_have_passed() {
            return;
        }
        // A service that is not as large as wanted yet is not promoted in full.
        let whole = release.rollouts.iter().all(|(name, rollout)| {
            let pool = PoolId::new(name, rollout.to);
            let side = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
            side.ready >= rollout.replicas
        });
        if whole {
            self.pass_point_of_no_return(release);
        }
    }

    /// Adds healthy time. Returns whether there is enough of it.
    pub(super) fn bake(&mut self, needed: Duration) -> bool {
        let now = self.moment.now;
        let Some(release) = self.state.release.as_deref() else { return false };
        if release.paused.is_some() {
            self.stop_bake();
            return false;
        }
        if release.bake.waived || release.bake.healthy >= needed {
            return true;
        }
        if release.rollouts.values().any(|rollout| rollout.unwell.is_some()) {
            self.stop_bake();
            return false;
        }
        let Some(since) = release.bake.seen else {
            if let Some(release) = self.state.release_mut() {
                release.bake.seen = Some(now);
            }
            return false;
        };
        let passed = now.since(since).min(GAP_MAX);
        let healthy = release.bake.healthy + passed;
        if passed < BAKE_PORTION && healthy < needed {
            return false;
        }
        if let Some(release) = self.state.release_mut() {
            release.bake.healthy = healthy;
            release.bake.seen = Some(now);
            release.progress = now;
        }
        healthy >= needed
    }

    /// Lets the clock of the bake stand still.
    pub(super) fn stop_bake(&mut self) {
        let runs = self.state.release.as_ref().is_some_and(|release| release.bake.seen.is_some());
        if runs && let Some(release) = self.state.release_mut() {
            release.bake.seen = None;
        }
    }
}
