//! Health with hysteresis: single answers in, a settled opinion out.

use crate::world::Health;

/// The opinion on one instance, moved only by several answers in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hysteresis {
    health: Health,
    /// Answers in a row that contradict `health`.
    contrary: u32,
}

impl Hysteresis {
    /// An opinion to start from.
    #[must_use]
    pub fn new(health: Health) -> Self {
        Self { health, contrary: 0 }
    }

    /// What is believed now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one answer in. Returns whether the opinion changed.
    ///
    /// `healthy_after` and `unhealthy_after` are the answers in a row it takes, at least 1.
    pub fn answered(&mut self, well: bool, healthy_after: u32, unhealthy_after: u32) -> bool {
        let (towards, needed) = match well {
            true => (Health::Healthy, healthy_after),
            false => (Health::Unhealthy, unhealthy_after),
        };
        if self.health == towards {
            self.contrary = 0;
            return false;
        }
        // Nothing is known of a new instance: a failure only says that it is not up yet, and the
        // successes after it are counted from there.
        if self.health == Health::Unknown && !well {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        if self.contrary < needed.max(1) {
            return false;
        }
        *self = Self::new(towards);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds answers (`+` well, `-` not) with rise 2 and fall 3, and writes the opinion after each.
    fn check(start: Health, answers: &str, expected: &str) {
        let mut it = Hysteresis::new(start);
        let opinions: String = answers
            .chars()
            .map(|answer| {
                it.answered(answer == '+', 2, 3);
                match it.health() {
                    Health::Unknown => '?',
                    Health::Healthy => 'H',
                    Health::Unhealthy => 'U',
                }
            })
            .collect();
        assert_eq!(opinions, expected);
    }

    #[test]
    fn s10_one_answer_moves_nothing() {
        check(Health::Unknown, "+-++", "???H");
        check(Health::Healthy, "-+--+---", "HHHHHHHU");
        check(Health::Unhealthy, "+-++", "UUUH");
        check(Health::Unknown, "-----", "?????");
    }
}
