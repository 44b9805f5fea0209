//! Jobs: started one after another, each once, and their ends taken note of.

use super::Deciding;
use crate::model::{JobWhen, PoolId, ServiceName, Weight};
use crate::release::job::Attempt;
use crate::release::judge::{Seen, phase_text};
use crate::release::state::{Release, Rollout};
use crate::time::{Timestamp, human};
use crate::world::{Instance, InstancePhase};

/// How an attempt ended: well, or why not.
type End = Result<(), String>;

impl Deciding<'_> {
    /// Takes note of attempts that have ended, or have taken too long.
    pub(super) fn watch_jobs(&mut self) {
        let Some(release) = self.state.forward() else { return };
        let ends: Vec<(ServiceName, Timestamp, End)> = release
            .jobs
            .keys()
            .filter_map(|name| {
                let (since, end) = self.end_of(release, name)?;
                Some((name.clone(), since, end))
            })
            .collect();
        for (name, since, end) in ends {
            self.end_attempt(&name, since, end);
        }
    }

    /// How the attempt under way ended, if it has, and since when it was.
    fn end_of(&self, release: &Release, name: &ServiceName) -> Option<(Timestamp, End)> {
        let platform = self.world.platform.known()?;
        let (run, job) = (release.jobs.get(name)?, release.wanted.jobs.get(name)?);
        let Attempt::Running { slot, since } = run.stage else { return None };
        let id = PoolId::new(name, run.revision).instance(slot);
        let end = platform.instances.get(&id).and_then(ended).or_else(|| {
            let late = self.moment.now.since(since) >= job.timeout;
            late.then(|| Err(format!("it was not done within {}", human(job.timeout))))
        });
        Some((since, end?))
    }

    fn end_attempt(&mut self, name: &ServiceName, since: Timestamp, end: End) {
        let Some(release) = self.state.release_mut() else { return };
        let Some(job) = release.wanted.jobs.get(name) else { return };
        let Some(run) = release.jobs.get_mut(name) else { return };
        let (revision, attempt) = (run.revision, run.attempt(job));
        let took = human(self.moment.now.since(since));
        let text = match end {
            Ok(()) => {
                run.stage = Attempt::Done;
                format!("job {name} {revision} is done, after {took}{attempt}")
            }
            Err(reason) => {
                let again = run.attempts <= job.retries;
                run.stage = if again { Attempt::Waiting } else { Attempt::Failed };
                let text = format!("job {name} {revision} failed after {took}: {reason}{attempt}");
                run.last_failure = Some(reason);
                text
            }
        };
        self.note("job.ended", text);
    }

    /// Runs the jobs of one point of the release, one after another. Returns whether all are done.
    pub(super) fn run_jobs(&mut self, release: &Release, when: JobWhen) -> bool {
        let next = release.jobs_of(when).find(|(_, run)| run.stage != Attempt::Done);
        let Some((name, run)) = next else { return true };
        let waits = run.stage == Attempt::Waiting && release.paused.is_none();
        if waits && self.may_start(release, name) {
            self.start_attempt(name);
        }
        false
    }

    /// Whether nothing of the job is left and everything that it uses answers.
    fn may_start(&self, release: &Release, name: &ServiceName) -> bool {
        let Some(seen) = Seen::of(self.world) else { return false };
        let Some(job) = release.wanted.jobs.get(name) else { return false };
        self.state.job_is_gone(name, seen.platform)
            && job.workload.uses.iter().all(|used| {
                let open = self.state.services.get(used).is_none_or(|it| !it.split.is_empty());
                open && self.answers(release, used)
            })
            // Whether it can reach what it uses is for the edge to say.
            && (job.workload.uses.is_empty()
                || seen.edge.serving.generation >= self.state.generation)
    }

    fn start_attempt(&mut self, name: &ServiceName) {
        let Some(release) = self.state.release.as_ref() else { return };
        let Some(revision) = release.jobs.get(name).map(|run| run.revision) else { return };
        self.resize(name, revision, 1);
        // Without a port there is no slot; the release then ends for lack of progress.
        let slot = self.state.kept(name, revision).and_then(|kept| kept.active().next());
        let Some(slot) = slot.map(|(number, _)| number) else { return };
        let now = self.moment.now;
        let Some(release) = self.state.release_mut() else { return };
        let Some(job) = release.wanted.jobs.get(name) else { return };
        let Some(run) = release.jobs.get_mut(name) else { return };
        run.attempts += 1;
        run.stage = Attempt::Running { slot, since: now };
        let (when, attempt) = (job.when, run.attempt(job));
        let at = match when {
            JobWhen::Before => "before anything new starts",
            JobWhen::After => "now that all traffic has moved",
        };
        self.note("job.started", format!("job {name} {revision} runs, {at}{attempt}"));
    }

    /// Lets a new service that a job needs answer it. No route leads to it yet.
    pub(super) fn open_for_jobs(&mut self, name: &ServiceName, rollout: &Rollout) {
        self.split(name, rollout, Weight::ALL);
    }
}

/// How an attempt ended, as far as its instance shows it.
fn ended(instance: &Instance) -> Option<End> {
    let how =
        || instance.last_exit.clone().unwrap_or_else(|| phase_text(instance.phase).to_owned());
    match instance.phase {
        InstancePhase::Ended { well: true } => Some(Ok(())),
        InstancePhase::Ended { well: false } | InstancePhase::Unstartable => Some(Err(how())),
        // One that is lost is taken over, and then it is seen how it ends.
        InstancePhase::Running
        | InstancePhase::Backoff
        | InstancePhase::PortTaken
        | InstancePhase::Stopping
        | InstancePhase::Lost => None,
    }
}
