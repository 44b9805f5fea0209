//! What a release waits for: since when, until when, what went wrong last, what would help.

use std::time::Duration;

use super::decide::openers;
use super::judge::{Seen, phase_text};
use super::state::{Phase, Release, Rollout, State};
use crate::analysis::Verdict;
use crate::model::{CheckName, JobWhen, PoolId, ServiceName};
use crate::rollout;
use crate::time::{Timestamp, human};
use crate::world::{Health, Observed, SchemaTarget, World};

/// A clock that has not begun to run so long after a step was reached stands still.
const STILL_AFTER: Duration = Duration::from_secs(3);

/// One thing that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What: one sentence.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// When the wait ends by itself at the latest, and what happens then.
    pub until: Option<(Timestamp, String)>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
    /// What would end the wait.
    pub unblock: String,
}

impl State {
    /// Everything the system waits for now. Empty when all is as it should be.
    #[must_use]
    pub fn waits(&self, world: &World, now: Timestamp) -> Vec<Wait> {
        let mut waits = blind(world, now);
        for closed in self.closed(world, now) {
            let then = "changes may be released again".to_owned();
            waits.push(Wait {
                what: closed.reason,
                since: closed.since,
                until: closed.until.map(|until| (until, then)),
                last_error: None,
                unblock: closed.hint,
            });
        }
        if let Some(release) = &self.release {
            waits.extend(self.release_waits(release, world, now));
        }
        waits.extend(self.hold_waits(world));
        waits.extend(self.scaling_waits(world, now));
        waits.extend(self.unwell_instances(world));
        waits.extend(self.certificate_waits(world));
        waits
    }

    fn release_waits(&self, release: &Release, world: &World, now: Timestamp) -> Vec<Wait> {
        let mut waits = Vec::new();
        if let Some(paused) = &release.paused {
            waits.push(Wait {
                what: match &paused.because {
                    Some(reason) => format!("release {} is held: {reason}", release.id),
                    None => format!("release {} is paused by {}", release.id, paused.by),
                },
                since: paused.since,
                until: paused.freeze.as_ref().and_then(|_| {
                    let until = self.holding(release, world, now)?.1.until?;
                    Some((until, "it goes on".to_owned()))
                }),
                last_error: None,
                unblock: match &paused.because {
                    Some(_) if paused.freeze.is_some() => {
                        "it goes on by itself when the freeze is over, `evenkeel abort` goes back"
                    }
                    Some(_) => {
                        "`evenkeel resume` watches on, `evenkeel promote` takes the next step all \
                         the same, `evenkeel abort` goes back"
                    }
                    None => "`evenkeel resume` goes on, `evenkeel abort` goes back",
                }
                .to_owned(),
            });
            if paused.because.is_some() {
                // What it would wait for otherwise is what it is held for.
                return waits;
            }
        }
        waits.extend(self.job_waits(release, world, now));
        let schemas = self.schema_waits(release, world);
        let only_schemas =
            !schemas.is_empty() && Seen::of(world).is_some_and(|seen| !self.has_leaving(&seen));
        waits.extend(schemas);
        match &release.phase {
            // Until then nothing new is to start.
            Phase::Expanding if !release.schemas_are(world, SchemaTarget::Ready) => {}
            Phase::Expanding => waits.extend(self.expanding(release, world, now)),
            Phase::Shifting { .. } => waits.extend(self.shifting(release, world, now)),
            Phase::Baking => {
                let bake = self.bake(release);
                let mut open = self.checking(release);
                if release.bake.waived || release.bake.healthy >= bake {
                    open.extend(self.incomplete(release, world, now));
                }
                if open.is_empty() || release.bake.healthy < bake {
                    waits.push(self.bake_wait(
                        release,
                        bake,
                        now,
                        "the old revisions are stopped (contract)",
                        "`evenkeel promote` contracts now, `evenkeel rollback` goes back at once",
                    ));
                }
                waits.extend(open);
            }
            // The instances are gone.
            Phase::Contracting if only_schemas => {}
            Phase::Contracting => waits.push(Wait {
                what: format!("the instances that release {} replaced drain and end", release.id),
                since: release.since,
                until: None,
                last_error: None,
                unblock: leaves(release, world),
            }),
            Phase::TurningBack(because) => waits.push(Wait {
                what: format!("release {} is taken back: the new instances drain", release.id),
                since: release.since,
                until: release.blind.is_none().then(|| {
                    let at = release.progress.after(release.progress_deadline());
                    (at, "the old instances take over whether they are well or not".to_owned())
                }),
                last_error: because.is_failure().then(|| because.to_string()),
                unblock: leaves(release, world),
            }),
        }
        waits
    }

    fn expanding(&self, release: &Release, world: &World, now: Timestamp) -> Vec<Wait> {
        let mut waits = Vec::new();
        if let (Some(edge), Some(keeper)) = (world.edge.known(), world.keeper.known()) {
            for (name, addr) in self.listeners() {
                let error = keeper.listeners.get(&name).cloned().flatten();
                if error.is_some() || !edge.listeners.contains(&name) {
                    waits.push(Wait {
                        what: format!("the edge does not listen on {addr} yet"),
                        since: release.since,
                        until: self.deadline(release),
                        last_error: error,
                        unblock: "free the address, or name another in [edge] listen".to_owned(),
                    });
                }
            }
        }
        let Some(seen) = Seen::of(world) else { return waits };
        // What waits for jobs is not late.
        let jobs_done = release.jobs_done(JobWhen::Before);
        let early = release.needed_by_jobs();
        let started = |name: &ServiceName| jobs_done || early.contains(name);
        for (name, rollout) in release.rollouts.iter().filter(|(name, _)| started(name)) {
            let needed = rollout.first_size();
            waits.extend(self.readiness(release, name, rollout, needed, seen, now));
        }
        waits.extend(self.growing(release, seen, now));
        if waits.is_empty() && !release.hurried {
            waits.extend(self.checking(release));
        }
        waits
    }

    /// Services that get more instances of the revision they have.
    fn growing(&self, release: &Release, seen: Seen<'_>, now: Timestamp) -> Vec<Wait> {
        let mut waits = Vec::new();
        for (name, wanted) in &release.wanted.services {
            let Some(service) = self.services.get(name) else { continue };
            let Some(stable) = service.stable.filter(|_| !release.rollouts.contains_key(name))
            else {
                continue;
            };
            let pool = PoolId::new(name, stable);
            let ready = self.side(&pool, Duration::ZERO, seen, now).ready;
            if wanted.replicas > service.replicas && ready < wanted.replicas {
                waits.push(Wait {
                    what: format!("{pool}: {ready} of {} instances ready", wanted.replicas),
                    since: release.progress,
                    until: self.deadline(release),
                    last_error: None,
                    unblock: format!("`evenkeel logs {name}` shows what they say"),
                });
            }
        }
        waits
    }

    fn shifting(&self, release: &Release, world: &World, now: Timestamp) -> Option<Wait> {
        let (name, rollout, step) = release.moving()?;
        let seen = Seen::of(world)?;
        let situation = self.situation(name, rollout, seen, now);
        let target = rollout::target(&rollout.strategy, step, &situation);
        if !target.reached {
            let needed = target.new.max(1);
            return self.readiness(release, name, rollout, needed, seen, now).or_else(|| {
                Some(Wait {
                    what: format!("{name} {}: places become free for new instances", rollout.to),
                    since: release.progress,
                    until: self.deadline(release),
                    last_error: None,
                    unblock: "the old instances drain first".to_owned(),
                })
            });
        }
        if seen.edge.serving.generation < self.generation {
            return Some(Wait {
                what: format!("the edge serves the new split of {name}"),
                since: release.progress,
                until: self.deadline(release),
                last_error: None,
                unblock: "`evenkeel doctor` looks at the roles".to_owned(),
            });
        }
        let is_new = rollout.from.is_none();
        let bake = rollout::watched(&rollout.strategy, step, is_new).map(|step| step.bake)?;
        if let Some(gate) = release.gate.as_ref().filter(|_| release.waits_at_gate()) {
            return Some(Wait {
                what: format!("somebody approves that {name} {} takes its next step", rollout.to),
                since: gate.since,
                until: None,
                last_error: release.gate_answer().map(str::to_owned),
                unblock: format!(
                    "{} lets it pass, `evenkeel abort` goes back",
                    release.gate_policy().map(openers).unwrap_or_default()
                ),
            });
        }
        let mut wait = self.bake_wait(
            release,
            bake,
            now,
            &format!("{name} {} takes its next step", rollout.to),
            "`evenkeel promote` takes the next step now, `evenkeel abort` goes back",
        );
        let requests = release.step_requests(Some(seen.edge));
        let requests = requests.filter(|(asked, needed)| asked < needed);
        let awaited = release.awaited_check(name, rollout);
        if let Some((asked, needed)) = requests {
            wait.what = format!("{}; asked {asked} of {needed} requests", wait.what);
        }
        if let Some((check, _)) = awaited {
            wait.what = format!("{}; check {check} passes", wait.what);
            wait.last_error = told(rollout, check).or(wait.last_error);
        }
        if requests.is_some() || awaited.is_some() {
            let left = release.patience(bake).saturating_sub(release.bake.healthy);
            let then = "without that it is held, or goes on if its `no_data` says so";
            wait.until = release.bake.seen.map(|seen| (seen.after(left), then.to_owned()));
        }
        Some(wait)
    }

    /// The checks that the release waits for before it begins to move traffic, or contracts.
    fn checking(&self, release: &Release) -> Vec<Wait> {
        let mut waits = Vec::new();
        for (name, rollout) in &release.rollouts {
            let Some((check, policy)) = release.awaited_check(name, rollout) else { continue };
            let stands = rollout.checks.get(check).filter(|it| it.run > 0);
            waits.push(Wait {
                what: format!("check {check} of {name} {} passes ({})", rollout.to, policy.ask),
                since: stands.map_or(release.since, |it| it.asked),
                until: self.deadline(release).filter(|_| stands.is_some()),
                last_error: told(rollout, check),
                unblock: "it is asked again by itself; `evenkeel abort` goes back".to_owned(),
            });
        }
        waits
    }

    fn bake_wait(
        &self,
        release: &Release,
        needed: Duration,
        now: Timestamp,
        then: &str,
        unblock: &str,
    ) -> Wait {
        let bake = release.bake;
        let running = bake.seen.map(|seen| now.since(seen)).unwrap_or_default();
        let left = needed.saturating_sub(bake.healthy + running);
        Wait {
            what: format!("baking: healthy for {} of {}", human(needed - left), human(needed)),
            since: release.since,
            // While the clock stands still nobody knows when it will be over.
            until: bake.seen.map(|_| (now.after(left), then.to_owned())),
            last_error: match bake.seen {
                None if release.paused.is_none() && now.since(release.since) >= STILL_AFTER => {
                    Some("the clock stands still while things are not healthy".to_owned())
                }
                _ => None,
            },
            unblock: unblock.to_owned(),
        }
    }

    /// The new revisions of which not all instances are ready.
    fn incomplete(&self, release: &Release, world: &World, now: Timestamp) -> Vec<Wait> {
        let Some(seen) = Seen::of(world) else { return Vec::new() };
        let rollouts = release.rollouts.iter();
        let waits = rollouts.filter_map(|(name, rollout)| {
            self.readiness(release, name, rollout, rollout.replicas, seen, now)
        });
        waits.collect()
    }

    fn readiness(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        needed: u32,
        seen: Seen<'_>,
        now: Timestamp,
    ) -> Option<Wait> {
        let situation = self.situation(name, rollout, seen, now);
        if situation.new.ready >= needed {
            return None;
        }
        let pool = PoolId::new(name, rollout.to);
        let kept = self.kept(name, rollout.to)?;
        let mut last_error = None;
        for (number, _) in kept.active() {
            let id = pool.instance(number);
            let health = seen.edge.instances.get(&id).map(|it| it.health).unwrap_or_default();
            if health == Health::Healthy {
                continue;
            }
            last_error = Some(match seen.platform.instances.get(&id) {
                None => format!("{id}: not started yet"),
                Some(instance) => match &instance.last_exit {
                    Some(exit) => format!("{id}: {}, {exit}", phase_text(instance.phase)),
                    None => format!("{id}: {}", phase_text(instance.phase)),
                },
            });
            break;
        }
        let healthy = self.side(&pool, Duration::ZERO, seen, now).ready;
        let counted = match healthy > situation.new.ready {
            true => format!(" ({healthy} healthy, not yet for long enough)"),
            false => String::new(),
        };
        Some(Wait {
            what: format!("{pool}: {} of {needed} instances ready{counted}", situation.new.ready),
            since: release.progress,
            until: self.deadline(release),
            last_error,
            unblock: format!("`evenkeel logs {name}` shows what they say"),
        })
    }

    fn deadline(&self, release: &Release) -> Option<(Timestamp, String)> {
        // While something cannot be seen, or a person holds it, the deadline stands still.
        let runs = release.blind.is_none() && release.paused.is_none();
        let at = release.progress.after(release.progress_deadline());
        runs.then(|| (at, "the release is taken back".to_owned()))
    }

    /// Instances of stable revisions that do not run as they should.
    fn unwell_instances(&self, world: &World) -> Vec<Wait> {
        let Some(seen) = Seen::of(world) else { return Vec::new() };
        let mut waits = Vec::new();
        for (name, service) in &self.services {
            let Some(stable) = service.stable else { continue };
            let Some(kept) = service.revisions.get(&stable) else { continue };
            for (number, _) in kept.active() {
                let id = PoolId::new(name, stable).instance(number);
                let Some(backend) = seen.edge.instances.get(&id) else { continue };
                if backend.health != Health::Unhealthy {
                    continue;
                }
                let instance = seen.platform.instances.get(&id);
                waits.push(Wait {
                    what: format!("{id} is unhealthy and gets no requests"),
                    since: backend.since,
                    until: None,
                    last_error: instance.map(|it| match &it.last_exit {
                        Some(exit) => format!("{}, {exit}", phase_text(it.phase)),
                        None => phase_text(it.phase).to_owned(),
                    }),
                    unblock: format!("`evenkeel logs {id}` shows what it says"),
                });
            }
        }
        waits
    }
}

/// What a check that has not passed said last.
fn told(rollout: &Rollout, check: &CheckName) -> Option<String> {
    let said = rollout.checks.get(check)?.said.as_ref()?;
    (said.verdict != Verdict::Pass).then(|| said.text.clone())
}

/// What cannot be seen at all.
/// What ends the wait for instances that leave.
fn leaves(release: &Release, world: &World) -> String {
    let readers = world.edge.known().map(|edge| &edge.readers);
    let read = readers.is_some_and(|it| release.rollouts.keys().any(|name| it.contains_key(name)));
    let linger = match read {
        true => ", and `linger` of `[discovery]` for clients that were told of them",
        false => "",
    };
    format!("it ends by itself after their drain and grace times{linger}")
}

fn blind(world: &World, now: Timestamp) -> Vec<Wait> {
    let mut waits = Vec::new();
    let mut look = |what: &str, error: Option<&String>| {
        if let Some(error) = error {
            waits.push(Wait {
                what: format!("{what} cannot be observed; nothing is stopped meanwhile"),
                since: now,
                until: None,
                last_error: Some(error.clone()),
                unblock: "`evenkeel doctor` looks at the roles".to_owned(),
            });
        }
    };
    look("the platform", unknown(&world.platform));
    look("the edge", unknown(&world.edge));
    look("the keeper", unknown(&world.keeper));
    waits
}

fn unknown<T>(observed: &Observed<T>) -> Option<&String> {
    match observed {
        Observed::Known(..) => None,
        Observed::Unknown(why) => Some(why),
    }
}
