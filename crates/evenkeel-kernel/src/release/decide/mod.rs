//! From one state to the next: what the release does about what was observed.
//!
//! The control flow is here, phase by phase; each phase says in its own file what it does.

mod back;
mod bake;
mod contract;
mod expand;
mod hold;
mod jobs;
mod pace;
mod scale;
mod schema;
mod settle;
mod shift;
mod start;
mod watch;

use std::sync::Arc;

pub(super) use contract::finished;
pub(super) use shift::{WITHOUT_REQUESTS_MAX, openers};

use super::pools::Moment;
use super::state::{Bake, Because, Note, Phase, Queued, Release, State};
use crate::model::PoolId;
use crate::rollout;
use crate::time::Timestamp;
use crate::world::World;

/// Another state, and what to write into the journal about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The state to commit.
    pub state: State,
    /// What was decided, in order. Empty for mere book-keeping.
    pub notes: Vec<Note>,
}

impl State {
    /// Decides what changes. Reads the world, touches nothing; `None` when there is nothing to
    /// decide.
    #[must_use]
    pub fn decide(&self, world: &World, now: Timestamp) -> Option<Decision> {
        let moment = Moment { now, generation: self.generation.next() };
        let mut next = Deciding { state: self.clone(), world, moment, notes: Vec::new() };
        next.keep_house();
        next.scale();
        next.step();
        next.settle();
        let Deciding { mut state, notes, .. } = next;
        if state == *self {
            return None;
        }
        state.finish_decision(self, world, now);
        Some(Decision { state, notes })
    }

    /// What a new control process makes of the state it finds: time that nobody watched is
    /// neither progress nor lack of it.
    #[must_use]
    pub fn resumed(&self, now: Timestamp) -> Self {
        let mut state = self.clone();
        state.scaling.clear();
        if let Some(release) = state.release_mut() {
            release.bake.seen = None;
            release.progress = now;
            release.blind = None;
            for rollout in release.rollouts.values_mut() {
                rollout.unwell = None;
            }
        }
        state
    }

    /// Book-keeping that every changed state gets: a generation if anything else is wanted, and
    /// the ledger as of now.
    pub(super) fn finish_decision(&mut self, before: &Self, world: &World, now: Timestamp) {
        let wants_the_same = self.wants_the_same_as(before);
        if !wants_the_same {
            self.generation = before.generation.next();
        }
        let moved = !wants_the_same
            || self.release.as_ref().map(|it| &it.phase)
                != before.release.as_ref().map(|it| &it.phase);
        let Some(release) = self.release_mut() else { return };
        if moved {
            release.progress = now;
        }
        if let Some(edge) = world.edge.known() {
            release.ledger.read(edge);
        }
    }

    fn wants_the_same_as(&self, before: &Self) -> bool {
        self.services == before.services
            && self.holds == before.holds
            && self.routes() == before.routes()
            && self.outside() == before.outside()
            && self.shown() == before.shown()
            && self.forward().is_some() == before.forward().is_some()
            && self.previews() == before.previews()
            && self.services.keys().all(|it| self.measures_cpu(it) == before.measures_cpu(it))
            && self.release.as_ref().map(|it| it.id) == before.release.as_ref().map(|it| it.id)
    }

    /// The release under way, to change it. Whoever only looks must not use this: a release that
    /// another state shares is copied here.
    pub(super) fn release_mut(&mut self) -> Option<&mut Release> {
        self.release.as_mut().map(Arc::make_mut)
    }
}

/// One decision in the making.
struct Deciding<'a> {
    state: State,
    world: &'a World,
    moment: Moment,
    notes: Vec<Note>,
}

impl Deciding<'_> {
    /// What is done whatever phase a release is in.
    fn keep_house(&mut self) {
        for text in self.state.replace_taken_ports(self.world, self.moment.now) {
            self.note("port.replaced", text);
        }
        for text in self.state.end_holds(self.moment.now) {
            self.note("hold.ended", text);
        }
        for (kind, text) in self.state.keep_certificates(self.world, self.moment.now) {
            self.note(kind, text);
        }
        self.state.drop_drained(self.world, self.moment.now);
        self.state.forget_revisions(self.world);
        self.keep_ledger();
    }

    /// One step of the release.
    fn step(&mut self) {
        if self.state.release.is_none() {
            return self.start_queued();
        }
        self.watch_the_watching();
        self.watch_wellness();
        self.watch_the_checks();
        self.watch_requests();
        self.watch_checks();
        self.watch_gate();
        self.watch_jobs();
        self.watch_schemas();
        self.fail();
        self.hold();
        let Some(release) = self.state.release.clone() else { return };
        if release.phase.is_forward() {
            self.keep_old_whole(&release);
        }
        match &release.phase {
            Phase::Expanding => self.expand(&release),
            Phase::Shifting { service, step } => self.shift(&release, *service, *step),
            Phase::Baking => self.bake_out(&release),
            Phase::Contracting => self.contract(&release),
            Phase::TurningBack(because) => self.go_back(&release, because),
        }
    }

    fn start_queued(&mut self) {
        let bad = |queued: &Queued| self.state.held_back(&queued.wanted).filter(|_| !queued.force);
        // What it has waited for has shown meanwhile that it is no good.
        if let Some(reason) = self.state.queued.as_ref().and_then(bad) {
            let dropped = self.state.drop_queued(&Because::Failed(reason), self.moment.now);
            return self.notes.extend(dropped);
        }
        let Some(queued) = self.state.queued.take() else { return };
        let notes = self.state.start(queued, self.world, self.moment.now);
        self.notes.extend(notes);
    }

    /// The release reaches another phase, or another step of it.
    fn enter(&mut self, phase: Phase) {
        let now = self.moment.now;
        let Some(release) = self.state.release_mut() else { return };
        let waived = release.bake.waived && phase == Phase::Contracting;
        release.bake = Bake { waived, ..Bake::default() };
        release.gate = None;
        release.since = now;
        release.progress = now;
        release.phase = phase;
        // The other phases are told by what they are entered for.
        let moving = release.moving().map(|(name, rollout, _)| PoolId::new(name, rollout.to));
        let edge = self.world.edge.known();
        release.asked_before = moving.map_or(0, |pool| release.asked(&pool, edge).requests);
        let Some((name, rollout, step)) = release.moving() else { return };
        let steps = rollout::steps(&rollout.strategy, rollout.from.is_none());
        let text = format!("shifting {name} to {}: step {} of {steps}", rollout.to, step + 1);
        self.note("phase.entered", text);
    }

    fn note(&mut self, kind: &'static str, text: String) {
        let release = self.state.release.as_ref().map(|release| release.id);
        self.notes.push(Note { release, kind, text });
    }
}
