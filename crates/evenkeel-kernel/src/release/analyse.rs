//! What the requests of a rollout tell: the counts of both revisions become batches, batches become
//! evidence, and evidence may become a finding.
//!
//! Only what is counted while both revisions have traffic tells anything, so nothing is concluded
//! after all traffic has moved; there the streaks of failed requests and health decide.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Release, Rollout, State};
use crate::analysis::{Batch, Case, Evidence, Finding, Tally, Track, requests_needed};
use crate::model::{Analysis, PoolId, ServiceName, Tolerance};
use crate::time::Timestamp;
use crate::world::{Counts, Edge};

/// Time between two batches. Each is one commit; a revision that fails a third of its requests is
/// found by the first or the second.
const BATCH: Duration = Duration::from_secs(2);

/// What the requests of one rollout have told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// By track, in the order of [`Track::ALL`].
    evidence: [Evidence; Track::ALL.len()],
    /// What the counters showed at the last batch; `None` before the first look.
    read: Option<Read>,
}

/// Counters of both revisions at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Read {
    at: Timestamp,
    /// The edge process that counted.
    incarnation: u64,
    /// By track, in the order of [`Track::ALL`].
    canary: [Tally; Track::ALL.len()],
    stable: [Tally; Track::ALL.len()],
}

/// How one track of a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Which track.
    pub track: Track,
    /// What the new revision counted lately.
    pub canary: Tally,
    /// What the stable revision counted lately.
    pub stable: Tally,
    /// The part of the way from no evidence to enough of it, 0 to 1 and beyond.
    pub evidence: f64,
}

/// A [`Standing`] that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Which track.
    pub track: Track,
    /// What the new revision counted lately.
    pub canary: Tally,
    /// What the stable revision counted lately.
    pub stable: Tally,
    /// The part of the way from no evidence to enough of it, in thousandths.
    pub evidence: u32,
}

impl From<Standing> for Judged {
    fn from(standing: Standing) -> Self {
        let Standing { track, canary, stable, evidence } = standing;
        Self { track, canary, stable, evidence: thousandths(evidence) }
    }
}

impl From<Judged> for Standing {
    fn from(judged: Judged) -> Self {
        let Judged { track, canary, stable, evidence } = judged;
        Self { track, canary, stable, evidence: f64::from(evidence) / 1_000.0 }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is bounded before, and such a cast saturates"
)]
fn thousandths(part: f64) -> u32 {
    (part * 1_000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Watched {
    /// The same with the batch that ends now; `None` when none is due, or nothing was counted.
    fn gathered(&self, read: Read, tolerance: Tolerance) -> Option<Self> {
        let Some(before) = self.read.as_ref().filter(|it| it.incarnation == read.incarnation)
        else {
            return Some(Self { read: Some(read), ..self.clone() });
        };
        let same = before.canary == read.canary && before.stable == read.stable;
        if same || read.at.since(before.at) < BATCH {
            return None;
        }
        let mut next = self.clone();
        let sides =
            before.canary.iter().zip(&before.stable).zip(read.canary.iter().zip(&read.stable));
        let tracks = Track::ALL.iter().zip(&mut next.evidence).zip(sides);
        for ((track, evidence), ((canary, stable), (canary_now, stable_now))) in tracks {
            let batch =
                Batch { canary: canary_now.since(*canary), stable: stable_now.since(*stable) };
            evidence.gather(batch, track.tolerance(tolerance));
        }
        next.read = Some(read);
        Some(next)
    }
}

impl State {
    /// What `rollout` has told by now, if that is more than before.
    pub(super) fn gathered(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        edge: &Edge,
        now: Timestamp,
    ) -> Option<Watched> {
        let from = rollout.from?;
        let tallies = |revision| {
            let counts: &Counts = edge.pools.get(&PoolId::new(name, revision))?;
            Some(Track::ALL.map(|track| counts.tally(track)))
        };
        let read = Read {
            at: now,
            incarnation: edge.incarnation,
            canary: tallies(rollout.to)?,
            stable: tallies(from)?,
        };
        rollout.watched.gathered(read, release.tolerance(name))
    }

    /// Why the new revision is worse than the old, if that is certain.
    pub(super) fn finding(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        edge: &Edge,
    ) -> Option<Finding> {
        let tolerance = release.tolerance(name);
        Track::ALL.iter().zip(&rollout.watched.evidence).find_map(|(track, evidence)| {
            // Most of the time there is none, and then nothing else is looked at.
            if !evidence.is_enough(track.alpha()) {
                return None;
            }
            let canary = self.lately(&PoolId::new(name, rollout.to), *track, edge);
            let stable = self.lately(&PoolId::new(name, rollout.from?), *track, edge);
            let stable = stable.into_iter().fold(Tally::default(), Tally::plus);
            Case { track: *track, evidence, tolerance, canary: &canary, stable }.finding()
        })
    }

    /// What the new revision of a service has cost so far, to be said after why it is taken back.
    pub(super) fn harm(
        &self,
        release: &Release,
        name: &ServiceName,
        edge: Option<&Edge>,
    ) -> Option<String> {
        let rollout = release.rollouts.get(name)?;
        let weight = self.services.get(name)?.weight(rollout.to);
        let account = release.ledger.account(&PoolId::new(name, rollout.to), edge)?;
        let counts = account.total();
        let (failed, requests) = (counts.failed(), counts.requests);
        (requests > 0).then(|| {
            format!("; {failed} of its {requests} requests had failed, at {weight} of the traffic")
        })
    }

    /// How each track of a rollout stands; empty where there is nothing to compare.
    #[must_use]
    pub fn standings(&self, name: &ServiceName, rollout: &Rollout, edge: &Edge) -> Vec<Standing> {
        let Some(from) = rollout.from else { return Vec::new() };
        let sum = |revision, track| {
            let lately = self.lately(&PoolId::new(name, revision), track, edge);
            lately.into_iter().fold(Tally::default(), Tally::plus)
        };
        let all = Track::ALL.iter().zip(&rollout.watched.evidence);
        let all = all.map(|(track, evidence)| Standing {
            track: *track,
            canary: sum(rollout.to, *track),
            stable: sum(from, *track),
            evidence: (evidence.log_e() / -track.alpha().ln()).max(0.0),
        });
        all.filter(|it| it.canary.requests + it.stable.requests > 0).collect()
    }

    /// What each instance of a pool that is meant to serve counted lately.
    fn lately(&self, pool: &PoolId, track: Track, edge: &Edge) -> Vec<Tally> {
        let kept = self.kept(&pool.service, pool.revision);
        let active = kept.into_iter().flat_map(|kept| kept.active());
        active
            .filter_map(|(number, _)| edge.instances.get(&pool.instance(number)))
            .map(|backend| backend.lately.of(track))
            .collect()
    }
}

impl Release {
    /// How many requests the canary has been asked in the present step, and how many it must have
    /// been before the next. None are asked for of a service that nobody can send any.
    #[must_use]
    pub fn step_requests(&self, edge: Option<&Edge>) -> Option<(u64, u64)> {
        let (name, rollout, _) = self.moving()?;
        let from = rollout.from?;
        let policy = &self.wanted.services.get(name)?.rollout.analysis;
        if self.hotfix.is_some() || !self.wanted.serves(name) {
            return None;
        }
        let stable = self.asked(&PoolId::new(name, from), edge);
        let needed = policy.min_requests.unwrap_or_else(|| requests_needed(stable));
        let canary = self.asked(&PoolId::new(name, rollout.to), edge).requests;
        Some((canary.saturating_sub(self.asked_before), needed))
    }

    /// What a pool was asked since the release started, and how much of it failed.
    pub(super) fn asked(&self, pool: &PoolId, edge: Option<&Edge>) -> Tally {
        let account = self.ledger.account(pool, edge);
        account.map(|account| account.total().tally(Track::Errors)).unwrap_or_default()
    }

    /// How much worse than the old one the new revision of a service may be.
    pub(super) fn tolerance(&self, name: &ServiceName) -> Tolerance {
        let analysis = self.wanted.services.get(name).map(|it| &it.rollout.analysis);
        analysis.map_or_else(|| Analysis::default().tolerance, |it| it.tolerance)
    }
}
