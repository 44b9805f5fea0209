//! Those who are asked by checks, and what they say.

use std::collections::BTreeMap;

use evenkeel_kernel::model::CheckId;
use evenkeel_kernel::release::State;
use evenkeel_kernel::world::{Answer, Reading};

use crate::rng::{Purpose, Rng};
use crate::scenario::Roughness;

/// The longest time that an answer takes.
const ANSWERED_WITHIN_MS: u64 = 1_200;

/// What is said to whom, and when.
pub(crate) struct Asked {
    rng: Rng,
    roughness: Roughness,
    /// By controller and question: each controller asks anew.
    said: BTreeMap<(usize, CheckId, u32), (u64, Reading)>,
}

impl Asked {
    pub(crate) fn new(seed: u64, roughness: Roughness) -> Self {
        Self { rng: Rng::new(seed, Purpose::Answers), roughness, said: BTreeMap::new() }
    }

    /// The answers that a controller has by now to what its durable state wants to know.
    pub(crate) fn answers(
        &mut self,
        controller: usize,
        state: &State,
        now: u64,
    ) -> BTreeMap<CheckId, Answer> {
        let mut answers = BTreeMap::new();
        for check in state.wanted_checks() {
            let question = (controller, check.id.clone(), check.run);
            let rough = self.roughness == Roughness::Machine;
            let rng = &mut self.rng;
            let (at, reading) = self.said.entry(question).or_insert_with(|| {
                let reading = match rng.below(20) {
                    0 if rough => Reading::Failed("exit status 1".to_owned()),
                    1 | 2 => Reading::Error("nobody answers".to_owned()),
                    _ => Reading::Done,
                };
                (now + rng.below(ANSWERED_WITHIN_MS), reading)
            });
            if *at <= now {
                answers.insert(check.id, Answer { run: check.run, reading: reading.clone() });
            }
        }
        answers
    }
}
