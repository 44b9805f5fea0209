//! Holding the requests of a service back, and serving them again.

use std::time::Duration;

use super::steer::with_reason;
use super::{Accepted, Refusal};
use crate::model::{Hold, ServiceName};
use crate::release::hold::Held;
use crate::release::state::{Note, Service, State};
use crate::time::{Timestamp, human};
use crate::world::World;

impl State {
    pub(super) fn hold(
        &self,
        name: &ServiceName,
        lasts: Duration,
        reason: Option<&str>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        self.is_held_or_there(name)?;
        if !(Hold::LASTS_MIN..=Hold::LASTS_MAX).contains(&lasts) {
            let (least, most) = (human(Hold::LASTS_MIN), human(Hold::LASTS_MAX));
            return Err(Refusal::new(
                format!("{name} cannot be held for {}", human(lasts)),
                format!(
                    "from {least} to {most} are possible; for longer, close its routes with \
                     `maintenance`"
                ),
            ));
        }
        let mut next = self.clone();
        let by = with_reason(by, reason);
        let text =
            format!("{name} is held for {} at most, by {by}: its requests wait", human(lasts));
        next.holds.insert(name.clone(), Held { by, since: now, lasts });
        let notes = vec![Note { release: None, kind: "hold.begun", text: text.clone() }];
        Ok(self.accept(next, notes, None, text, world, now))
    }

    pub(super) fn unhold(
        &self,
        name: &ServiceName,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        self.is_held_or_there(name)?;
        let mut next = self.clone();
        if next.holds.remove(name).is_none() {
            let text = format!("{name} is not held");
            return Ok(Accepted { decision: None, release: None, text });
        }
        let text = format!("{name} is served again, by {by}");
        let notes = vec![Note { release: None, kind: "hold.ended", text: text.clone() }];
        Ok(self.accept(next, notes, None, text, world, now))
    }

    /// Refuses a service that nobody knows.
    fn is_held_or_there(&self, name: &ServiceName) -> Result<(), Refusal> {
        let there = self.services.get(name).is_some_and(Service::is_there);
        if there || self.holds.contains_key(name) {
            return Ok(());
        }
        Err(Refusal::new(
            format!("there is no service {name}"),
            "`evenkeel status` lists the services",
        ))
    }
}
