//! What is known of the load of each pool that scales: by which rules, what is measured, and what
//! its size waits for. What follows from it is decided in `decide/scale.rs`.

use super::judge::Seen;
use super::state::{Phase, State};
use super::why::Wait;
use crate::model::{PoolId, RevisionNumber, Scale, ServiceName};
use crate::scaling::{Gauge, Measured, Metric, Need, cpu_target, need};
use crate::time::Timestamp;
use crate::world::{Health, World};

/// Which part a pool has in its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: no rollout moves the service.
    Whole,
    /// The revision that is left.
    Old,
    /// The revision that takes over.
    New,
}

/// A pool that scales.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) name: ServiceName,
    pub(super) revision: RevisionNumber,
    pub(super) part: Part,
    /// The rules of its service.
    pub(super) scale: Scale,
    /// How many instances it is to have.
    pub(super) size: u32,
    /// It may get smaller.
    pub(super) shrinks: bool,
}

impl Subject {
    /// How many instances it needs. Only a whole service has the least that its file names; one of
    /// two revisions is as small as its part of the traffic. To none it goes by other rules.
    pub(super) fn need(&self, measured: &Measured) -> Need {
        let min = if self.part == Part::Whole { self.scale.min.max(1) } else { 1 };
        need(&Scale { min, ..self.scale.clone() }, measured)
    }
}

impl Subject {
    /// Whether fewer would be enough if what is not measured were nothing.
    fn would_shrink(&self, measured: &Measured) -> bool {
        let known = |gauge: &Gauge| Gauge { unmeasured: 0, ..*gauge };
        let gauges = measured.gauges.iter().map(known).collect();
        self.need(&Measured { gauges, ..measured.clone() }).size < self.size
    }
}

/// How large a service is, and by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Sized {
    /// Its bounds and targets.
    pub scale: Scale,
    /// Its pool that scales, as it was measured; `None` while it cannot be.
    pub measured: Option<Measured>,
}

impl State {
    /// Every pool that scales now.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for name in self.services.keys() {
            self.subjects_of(name, &mut subjects);
        }
        subjects
    }

    fn subjects_of(&self, name: &ServiceName, subjects: &mut Vec<Subject>) {
        let Some(service) = self.services.get(name) else { return };
        let of = |stack: &crate::model::Stack| stack.services.get(name)?.scale.clone();
        let rollout = self.release.as_deref().and_then(|it| Some((it, it.rollouts.get(name)?)));
        let Some((release, rollout)) = rollout.filter(|(it, _)| it.phase != Phase::Contracting)
        else {
            // What replaced the others stays as large as it is until they are gone.
            let shrinks = rollout.is_none();
            if let (Some(revision), Some(scale)) = (service.stable, of(&self.stack)) {
                let (name, size) = (name.clone(), service.replicas);
                let part = Part::Whole;
                subjects.push(Subject { name, revision, part, scale, size, shrinks });
            }
            return;
        };
        let shrinks = false;
        // What gets nothing more is not asked: what it still answers is on its way out.
        let asked = |revision| service.weight(revision).0 > 0;
        let old = rollout.from.filter(|from| asked(*from)).zip(of(&self.stack));
        if let Some((revision, scale)) = old {
            // One that is replaced bit by bit has the size that it has.
            let size = match self.is_replaced_bit_by_bit(name) {
                true => self.active(name, revision),
                false => service.replicas,
            };
            let (name, part) = (name.clone(), Part::Old);
            subjects.push(Subject { name, revision, part, scale, size, shrinks });
        }
        let scale = of(&release.wanted).filter(|_| release.phase.is_forward());
        if let Some(scale) = scale {
            let (revision, size) = (rollout.to, self.active(name, rollout.to));
            let (name, part) = (name.clone(), Part::New);
            subjects.push(Subject { name, revision, part, scale, size, shrinks });
        }
    }

    /// Whether the instances of the new revision take the places of the old one's at this moment.
    pub(super) fn is_replaced_bit_by_bit(&self, name: &ServiceName) -> bool {
        let release = self.release.as_deref();
        let rollout = release.and_then(|release| release.rollouts.get(name));
        let rolls = rollout.is_some_and(|it| {
            matches!(it.strategy, crate::model::Strategy::Rolling { .. }) && it.from.is_some()
        });
        rolls && release.is_some_and(|it| matches!(it.phase, Phase::Shifting { .. }))
    }

    pub(super) fn active(&self, name: &ServiceName, revision: RevisionNumber) -> u32 {
        let count = self.kept(name, revision).map_or(0, |kept| kept.active().count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// What is measured of a pool.
    pub(super) fn measured(&self, subject: &Subject, seen: Seen<'_>) -> Measured {
        let pool = PoolId::new(&subject.name, subject.revision);
        let kept = self.kept(&subject.name, subject.revision);
        let ready: Vec<_> = kept
            .into_iter()
            .flat_map(|kept| kept.active())
            .map(|(number, _)| pool.instance(number))
            .filter_map(|id| Some((seen.edge.instances.get(&id)?, id)))
            .filter(|(backend, _)| backend.health == Health::Healthy)
            .collect();
        let gauge = |metric, target, values: Vec<Option<u32>>| Gauge {
            metric,
            total: values.iter().flatten().map(|value| u64::from(*value)).sum(),
            unmeasured: count(values.iter().filter(|value| value.is_none()).count()),
            target,
        };
        let in_flight = subject.scale.in_flight.map(|target| {
            let values = ready.iter().map(|(backend, _)| backend.load_milli).collect();
            gauge(Metric::InFlight, u64::from(target) * 1_000, values)
        });
        let limit = kept.and_then(|kept| kept.revision.workload.limits.cpu_milli);
        let cpu = subject.scale.cpu.map(|part| {
            let of = |id| seen.platform.instances.get(id)?.cpu_milli;
            let values = ready.iter().map(|(_, id)| of(id)).collect();
            gauge(Metric::Cpu, cpu_target(part, limit), values)
        });
        Measured {
            size: subject.size,
            ready: count(ready.len()),
            gauges: in_flight.into_iter().chain(cpu).collect(),
        }
    }

    /// Whether the processor time of a service's instances counts.
    pub(super) fn measures_cpu(&self, name: &ServiceName) -> bool {
        let wanted = self.release.as_deref().map(|release| &release.wanted);
        let stacks = wanted.into_iter().chain([&self.stack]);
        let mut scales = stacks.filter_map(|stack| stack.services.get(name)?.scale.as_ref());
        scales.any(|scale| scale.cpu.is_some())
    }

    /// How a service scales, and what is measured of its pool with the most traffic. `None` of one
    /// that does not scale.
    #[must_use]
    pub fn sized(&self, name: &ServiceName, world: &World) -> Option<Sized> {
        let mut subjects = Vec::new();
        self.subjects_of(name, &mut subjects);
        let service = self.services.get(name)?;
        let subject = subjects.into_iter().max_by_key(|it| service.weight(it.revision))?;
        let measured = Seen::of(world).map(|seen| self.measured(&subject, seen));
        Some(Sized { scale: subject.scale, measured })
    }

    /// What the sizes of pools wait for.
    pub(super) fn scaling_waits(&self, world: &World, now: Timestamp) -> Vec<Wait> {
        let Some(seen) = Seen::of(world) else { return Vec::new() };
        let subjects = self.subjects().into_iter();
        let waits = subjects.filter_map(|subject| {
            let measured = self.measured(&subject, seen);
            let size = self.scaling_wait(&subject, &measured, now);
            size.or_else(|| self.sleeping_wait(&subject, &measured, seen))
        });
        waits.collect()
    }

    fn scaling_wait(&self, subject: &Subject, measured: &Measured, now: Timestamp) -> Option<Wait> {
        let Subject { name, scale, size, .. } = subject;
        let Need { size: needed, asked, .. } = subject.need(measured);
        let watch = self.watch(subject);
        let load = told(measured);
        let wait = |what, since, until, unblock: String| {
            Some(Wait { what, since, until, last_error: None, unblock })
        };
        if asked > scale.max && *size >= scale.max {
            let what =
                format!("{name} is as large as it may be, {size}, and needs {asked}: {load}");
            let unblock = format!("raise `max` in [service.{name}.scale]");
            return wait(what, now, None, unblock);
        }
        if let Some(since) = watch.and_then(|it| it.more_since()).filter(|_| needed > *size) {
            let what = format!("{name} needs {needed} instances and has {size}: {load}");
            let until = (since.after(scale.up_after), "it grows".to_owned());
            let unblock = format!("`evenkeel scale {name}={needed}` does not wait");
            return wait(what, since, Some(until), unblock);
        }
        let unmeasured = measured.gauges.iter().find(|it| it.unmeasured > 0 && subject.shrinks);
        if let Some(unmeasured) = unmeasured.filter(|_| subject.would_shrink(measured)) {
            let metric = unmeasured.metric.name();
            let what = format!(
                "{name}: {metric} of {} of its instances is not known, so it does not shrink",
                unmeasured.unmeasured
            );
            return wait(what, now, None, "it ends once they have been watched".to_owned());
        }
        let (since, most) = watch.and_then(|it| it.less()).filter(|_| needed < *size)?;
        let (what, until) = match most < *size {
            true => {
                let what =
                    format!("{name} has {size} instances, and {most} have been enough: {load}");
                (what, Some((since.after(scale.down_after), "it shrinks".to_owned())))
            }
            false => {
                (format!("{name} has {size} instances, and needed them until lately: {load}"), None)
            }
        };
        wait(what, since, until, format!("`evenkeel scale {name}={needed}` does not wait"))
    }

    /// Since when nobody has asked for a pool that may have no instance then: it may, everybody is
    /// well, and nobody holds anything there. `None`: it has to stay.
    pub(super) fn idle_since(
        &self,
        subject: &Subject,
        measured: &Measured,
        seen: Seen<'_>,
    ) -> Option<Timestamp> {
        // A change that comes next would have to wake it again.
        let may = subject.part == Part::Whole
            && subject.shrinks
            && subject.scale.sleeps()
            && self.queued.is_none();
        // Of what the edge does not tell of, nobody knows whether it is asked for.
        let demand = seen.edge.demand.get(&subject.name).filter(|it| may && it.waiting == 0)?;
        let pool = PoolId::new(&subject.name, subject.revision);
        let its = seen.edge.instances.range(pool.instance(0)..=pool.instance(u32::MAX));
        let free = its.map(|(_, it)| it).all(|it| it.in_flight == 0 && it.long_lived == 0);
        let whole = measured.ready == measured.size;
        // Whoever started the newest wants it to be there for a while.
        let kept = self.kept(&subject.name, subject.revision)?;
        let newest = kept.active().map(|(_, slot)| slot.since).max()?;
        (free && whole).then(|| demand.asked.max(newest))
    }

    /// A pool that goes to none unless somebody asks for it.
    fn sleeping_wait(
        &self,
        subject: &Subject,
        measured: &Measured,
        seen: Seen<'_>,
    ) -> Option<Wait> {
        let since = self.idle_since(subject, measured, seen)?;
        let (name, until) = (&subject.name, since.after(subject.scale.zero_after));
        Some(Wait {
            what: format!("nobody asks for {name}"),
            since,
            until: Some((until, "it has no instance until somebody does".to_owned())),
            last_error: None,
            unblock: format!("a request for it, or another `min` in [service.{name}.scale]"),
        })
    }

    pub(super) fn watch(&self, subject: &Subject) -> Option<&crate::scaling::Watch> {
        self.scaling.get(&subject.name)?.get(&subject.revision)
    }
}

/// What was measured, in words: `in_flight 14.2 of 10, cpu 35 % of 70 % of a core`.
pub(super) fn told(measured: &Measured) -> String {
    let gauges = measured.gauges.iter().map(|gauge| {
        let (mean, metric) = (gauge.mean(measured.ready), gauge.metric.name());
        match gauge.metric {
            Metric::InFlight => format!("{metric} {} of {}", decimal(mean), gauge.target / 1_000),
            Metric::Cpu => format!("{metric} {mean}m of {}m", gauge.target),
        }
    });
    gauges.collect::<Vec<_>>().join(", ")
}

/// Thousandths with one digit after the point.
fn decimal(milli: u64) -> String {
    let tenths = (milli + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
