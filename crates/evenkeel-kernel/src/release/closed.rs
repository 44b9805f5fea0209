//! Why nothing new is released now: a person's lock, a freeze, or a pace. All of them let hotfixes
//! and ways back pass, and say when they end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::state::{Kind, Phase, Release, State};
use crate::calendar::Calendar;
use crate::model::{Freeze, FreezeName, Stack};
use crate::plan::{Now, moving};
use crate::time::{Timestamp, human};
use crate::world::{Observed, World};

/// How a hotfix goes past all of them.
const PAST: &str = "`evenkeel apply --hotfix REASON` goes past it";

/// What keeps new releases from being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What, and until when: a lower-case fragment.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself, if it does.
    pub until: Option<Timestamp>,
    /// What ends it, and what goes past it.
    pub hint: String,
}

impl Closed {
    fn by_lock(lock: &super::state::Lock) -> Self {
        Self {
            reason: lock.to_string(),
            since: lock.since,
            until: None,
            hint: format!("`evenkeel unlock` opens it, {PAST}"),
        }
    }

    /// What a freeze closes now, if it is on.
    ///
    /// One that cannot be evaluated counts as on: a release that comes late does less harm than one
    /// that nobody wanted then, and what cannot wait goes past it in any case.
    fn by_freeze(
        name: &FreezeName,
        freeze: &Freeze,
        calendar: &Observed<Calendar>,
        now: Timestamp,
    ) -> Option<Self> {
        let why = freeze.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let zone = match calendar {
            Observed::Known(calendar, _) => match calendar.zones.get(&freeze.zone) {
                Some(Ok(zone)) => Ok((calendar.utc, zone)),
                Some(Err(why)) => Err(why.clone()),
                None => Err(format!("nobody has looked at the clocks of {}", freeze.zone)),
            },
            Observed::Unknown(why) => Err(why.clone()),
        };
        let (utc, zone) = match zone {
            Ok(known) => known,
            Err(unknown) => {
                let reason = format!(
                    "nothing new is released: freeze {name} counts as on, because it cannot be \
                     evaluated: {unknown}"
                );
                return Some(Self { reason, since: now, until: None, hint: PAST.to_owned() });
            }
        };
        let (from, to) = freeze.window.open_at(utc, zone)?;
        let seconds = |count: i64| Duration::from_secs(u64::try_from(count).unwrap_or(0));
        let end = zone.civil(to);
        let day = end.weekday().name();
        let until = format!("{day} {end} ({})", freeze.zone);
        Some(Self {
            reason: format!("nothing new is released until {until}: freeze {name}{why}"),
            since: Timestamp(now.0.saturating_sub(u64::try_from(utc - from).unwrap_or(0) * 1_000)),
            until: Some(now.after(seconds(to - utc))),
            hint: format!("it ends by itself on {until}, {PAST}"),
        })
    }
}

impl State {
    /// Everything that keeps anything new from being released now, whatever it is.
    #[must_use]
    pub fn closed(&self, world: &World, now: Timestamp) -> Vec<Closed> {
        let lock = self.lock.iter().map(Closed::by_lock);
        let freezes = self.in_force().freezes.iter();
        let freezes = freezes
            .filter_map(|(name, freeze)| Closed::by_freeze(name, freeze, &world.calendar, now));
        lock.chain(freezes).collect()
    }

    /// The stack whose freezes are in force: of a release that is promoted, its own.
    fn in_force(&self) -> &Stack {
        match &self.release {
            Some(release) if release.phase == Phase::Baking => &release.wanted,
            Some(_) | None => &self.stack,
        }
    }

    /// What keeps `wanted` from being released now, seen from what is there.
    ///
    /// The freezes of what is released count as well as those of what is wanted, so that a change
    /// cannot lift the one that it comes in. Where nothing is deployed there is nothing to protect,
    /// and a change that moves nothing but freezes and the pace closes at most.
    pub(super) fn closed_for(
        &self,
        wanted: &Stack,
        there: &Now<'_>,
        world: &World,
        now: Timestamp,
    ) -> Option<Closed> {
        if let Some(lock) = &self.lock {
            return Some(Closed::by_lock(lock));
        }
        let released = self.closed(world, now).into_iter().next();
        if released.is_some() {
            return released;
        }
        let same = wanted.services == there.stack.services
            && wanted.routes == there.stack.routes
            && wanted.edge == there.stack.edge;
        if there.services.is_empty() || same {
            return None;
        }
        let mut freezes = wanted.freezes.iter();
        freezes
            .find_map(|(name, freeze)| Closed::by_freeze(name, freeze, &world.calendar, now))
            .or_else(|| self.paced(wanted, there, now))
    }

    /// A service that was released too short a while ago.
    fn paced(&self, wanted: &Stack, there: &Now<'_>, now: Timestamp) -> Option<Closed> {
        let between = self.in_force().pace.between.max(wanted.pace.between)?;
        moving(there, wanted).into_iter().find_map(|name| {
            let since = self.services.get(&name)?.released?;
            let until = since.after(between);
            (now < until).then(|| Closed {
                reason: format!(
                    "{name} was released {} ago, and {} are to be between two releases of a \
                     service: there are {} to go",
                    told(now.since(since)),
                    human(between),
                    told(until.since(now))
                ),
                since,
                until: Some(until),
                hint: format!("it ends by itself, {PAST}"),
            })
        })
    }

    /// The freeze that holds a release which was started before it, if one does.
    pub(super) fn holding(
        &self,
        release: &Release,
        world: &World,
        now: Timestamp,
    ) -> Option<(FreezeName, Closed)> {
        let excepted = release.hotfix.is_some() || release.kind == Kind::Rollback;
        // What waits behind it is a hotfix or a way back, and must not wait for a freeze. A stack
        // that is released for the first time has nothing to protect.
        if excepted || self.queued.is_some() || self.stack.services.is_empty() {
            return None;
        }
        let freezes = self.stack.freezes.iter().chain(&release.wanted.freezes);
        freezes.filter(|(_, freeze)| freeze.holds).find_map(|(name, freeze)| {
            Some((name.clone(), Closed::by_freeze(name, freeze, &world.calendar, now)?))
        })
    }

    /// The time zones whose clocks somebody must look at to decide anything here.
    #[must_use]
    pub fn zones(&self) -> BTreeSet<&str> {
        let release = self.release.iter().map(|release| &release.wanted);
        let queued = self.queued.iter().map(|queued| &queued.wanted);
        let stacks = std::iter::once(&self.stack).chain(release).chain(queued);
        stacks.flat_map(|stack| stack.zones()).collect()
    }
}

impl Stack {
    /// The time zones that it names.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.freezes.values().map(|freeze| freeze.zone.as_str())
    }
}

/// A span in whole seconds.
fn told(span: Duration) -> String {
    human(Duration::from_secs(span.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)))
}
