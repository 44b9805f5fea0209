//! For how long more instances have been needed, or fewer enough.
//!
//! What is kept is durable, so it is small, and it changes at most once an [`INTERVAL`], and not at
//! all while a pool needs as many instances as it has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Need;
use crate::model::Scale;
use crate::time::Timestamp;

/// Time between two changes of what is remembered, or of a size: each is one commit.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// The time in which less must be enough is divided into so many parts, of which only the most that
/// was needed is remembered.
const PARTS: u32 = 6;
/// A pool grows to so many times its size at a time,
const GROWTH_FACTOR: u32 = 2;
/// or by so many instances, whichever is more; so does the Kubernetes autoscaler.
const GROWTH_LEAST: u32 = 4;
/// A longer gap between two looks was not watched, unless two parts are longer.
const GAP_MAX: Duration = Duration::from_secs(10);

/// What is remembered of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// When anything here changed last.
    at: Timestamp,
    /// Since when more instances have been needed than there are.
    more_since: Option<Timestamp>,
    /// What was needed lately, once it was less.
    less: Option<Less>,
}

/// A time in which fewer instances were needed, at its beginning at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Less {
    since: Timestamp,
    /// The number of the newest part, counted from the beginning of time.
    part: u64,
    /// The most that was needed in each part, newest last; at most [`PARTS`] and the one under way.
    most: Vec<u32>,
}

/// What comes of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is remembered from now on.
    pub watch: Watch,
    /// The size that the pool gets, if another than it has.
    pub size: Option<u32>,
}

impl Watch {
    /// Takes in what a pool of `size` needs now. `shrinks`: it may get smaller. `None` when nothing
    /// changes.
    #[must_use]
    pub fn step(
        &self,
        scale: &Scale,
        size: u32,
        need: Need,
        shrinks: bool,
        now: Timestamp,
    ) -> Option<Step> {
        if now.since(self.at) < INTERVAL {
            return None;
        }
        let more_since = (need.size > size).then(|| self.more_since.unwrap_or(now));
        if more_since.is_some_and(|since| now.since(since) >= scale.up_after) {
            let most = size.saturating_mul(GROWTH_FACTOR).max(size.saturating_add(GROWTH_LEAST));
            let watch = Self { at: now, ..Self::default() };
            return Some(Step { watch, size: Some(need.size.min(most)) });
        }
        let less = self.lessened(scale, size, need.size.min(size), now).filter(|_| shrinks);
        let enough = less.as_ref().filter(|it| now.since(it.since) >= scale.down_after);
        // What was needed is remembered: a slow decline is followed, not waited for again and again.
        let smaller = enough.map(Less::most).filter(|most| *most < size);
        let same = more_since == self.more_since && less == self.less;
        let watch = Self { at: now, more_since, less };
        (!same || smaller.is_some()).then_some(Step { watch, size: smaller })
    }

    /// What was needed lately, with what is needed now.
    fn lessened(&self, scale: &Scale, size: u32, needed: u32, now: Timestamp) -> Option<Less> {
        let length = part_length(scale);
        let part = now.0 / length;
        let begun = || Less { since: now, part, most: vec![needed] };
        let Some(less) = &self.less else { return (needed < size).then(begun) };
        let passed = part.saturating_sub(less.part);
        let gap = Duration::from_millis(passed.saturating_sub(1).saturating_mul(length));
        if gap > GAP_MAX && passed > 2 {
            return (needed < size).then(begun);
        }
        let latest = less.most.last().copied().unwrap_or(needed);
        if passed > 0 && needed >= size && latest >= size {
            // A whole part has needed all of them: there is nothing to remember.
            return None;
        }
        let mut less = less.clone();
        match less.most.last_mut().filter(|_| passed == 0) {
            Some(most) => *most = needed.max(*most),
            None => {
                // A part in which nobody looked is between its neighbours.
                let between = usize::try_from(passed - 1).unwrap_or(usize::MAX).min(PARTS as usize);
                less.most.extend(std::iter::repeat_n(needed.max(latest), between));
                less.most.push(needed);
            }
        }
        let excess = less.most.len().saturating_sub(PARTS as usize + 1);
        less.most.drain(..excess);
        less.part = part;
        Some(less)
    }

    /// Since when more instances have been needed.
    #[must_use]
    pub fn more_since(&self) -> Option<Timestamp> {
        self.more_since
    }

    /// Since when fewer instances may have been enough, and how many.
    #[must_use]
    pub fn less(&self) -> Option<(Timestamp, u32)> {
        self.less.as_ref().map(|less| (less.since, less.most()))
    }

    /// Whether there is anything that time could add to.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.more_since.is_none() && self.less.is_none()
    }
}

impl Less {
    fn most(&self) -> u32 {
        self.most.iter().copied().max().unwrap_or(u32::MAX)
    }
}

/// How long a part is, in milliseconds. So many parts, and the one under way, are no shorter than
/// what must have been watched.
fn part_length(scale: &Scale) -> u64 {
    let part = scale.down_after.div_f64(f64::from(PARTS)).max(INTERVAL);
    u64::try_from(part.as_millis()).unwrap_or(u64::MAX).max(1)
}
