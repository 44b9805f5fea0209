//! What the judgement costs: a thousand rollouts with three tracks each, beside the ten seconds in
//! which a batch of them has to be judged. The judgement alone, and all that hangs on it: the
//! decision on the whole state, and its commit.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_journal::{Journal, Store as _, Version};
use evenkeel_kernel::analysis::{Batch, Case, Evidence, Tally, Track};
use evenkeel_kernel::model::{Epoch, Stack, Tolerance, Weight};
use evenkeel_kernel::release::{Action, Change, Kind, Ports, Stage, State};
use evenkeel_kernel::spec;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{
    Backend, Counts, Edge, Fence, Health, Instance, InstancePhase, Keeper, Lately, Observed,
    Platform, World,
};

/// Rollouts that are judged at once.
const ROLLOUTS: usize = 1_000;
/// Instances of each canary.
const CANARIES: usize = 10;
/// Batches of the judgement alone that are measured.
const BATCHES: u32 = 100;
/// Batches of the whole way that are measured.
const WHOLE_BATCHES: u32 = 10;
/// Looks until the first traffic has moved.
const LOOKS_MAX: usize = 100;
/// How often each of them has to be done.
const EVERY: Duration = Duration::from_secs(10);

pub(super) fn run() -> anyhow::Result<()> {
    println!("\njudgement: {ROLLOUTS} rollouts, {} tracks each", Track::ALL.len());
    alone();
    whole()
}

fn alone() {
    let tolerance = Tolerance(2_000);
    let tally = |requests, bad| Tally { requests, bad };
    let mut evidence = vec![[(); Track::ALL.len()].map(|()| Evidence::default()); ROLLOUTS];
    let lately = [tally(1_000, 5); CANARIES];
    let began = Instant::now();
    let mut found = 0_u64;
    for number in 0..u64::from(BATCHES) {
        // A bad event on both sides in every batch: the dearest case.
        let batch = Batch { canary: tally(500, 1 + number % 2), stable: tally(9_500, 10) };
        for rollout in &mut evidence {
            for (track, evidence) in Track::ALL.iter().zip(rollout) {
                evidence.gather(black_box(batch), track.tolerance(tolerance));
                let stable = tally(100_000, 100);
                let case = Case { track: *track, evidence, tolerance, canary: &lately, stable };
                found += u64::from(black_box(case.finding()).is_some());
            }
        }
    }
    tell("the judgement alone", began.elapsed() / BATCHES);
    println!("  findings              {found:>8}");
}

fn tell(what: &str, each: Duration) {
    let part = each.as_secs_f64() / EVERY.as_secs_f64() * 100.0;
    let ms = each.as_secs_f64() * 1_000.0;
    println!("  {what:<21} {ms:>8.2} ms, {part:.3} % of a core every {} s", EVERY.as_secs());
}

/// A release of a thousand services, with counters of both revisions of each.
fn whole() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut journal = Journal::open(&folder.path().join("state"), 1)?;
    let epoch = journal.claim()?;
    let ports = Ports { first: 1_024, last: 60_000, next: 1_024 };
    let empty = Stack::empty("bench".parse()?);
    let mut house = House { state: State::new(empty, ports), seconds: 1, asked: 0 };
    house.apply("v1")?;
    house.promoted();
    house.apply("v2")?;
    // One moves its traffic at a time; all of them are counted and judged.
    house.until(|state| state.services.values().any(|it| it.split.len() == 2))?;
    let body = serde_json::to_string(&house.state)?;
    println!("  the state             {:>8} KiB", body.len() >> 10);

    let (mut deciding, mut committing) = (Duration::ZERO, Duration::ZERO);
    let mut version = Version(0);
    for _ in 0..WHOLE_BATCHES {
        house.seconds += EVERY.as_secs();
        house.asked += 10_000;
        let world = house.world();
        let began = Instant::now();
        let decision = house.state.decide(&world, house.now());
        deciding += began.elapsed();
        let Some(decision) = decision else { anyhow::bail!("a batch was no decision") };
        house.state = decision.state;
        let began = Instant::now();
        let body = serde_json::to_string(&house.state)?;
        version = journal.commit(version, epoch, &[], 1, &body)?;
        committing += began.elapsed();
    }
    let mut looking = Duration::ZERO;
    for _ in 0..WHOLE_BATCHES {
        house.seconds += 1;
        let world = house.world();
        let began = Instant::now();
        black_box((house.state.decide(&world, house.now()), house.state.wants(epoch)));
        looking += began.elapsed();
    }
    tell("deciding on all of it", deciding / WHOLE_BATCHES);
    tell("and committing it", committing / WHOLE_BATCHES);
    let ms = looking.as_secs_f64() * 1_000.0 / f64::from(WHOLE_BATCHES);
    println!("  a look in between     {ms:>8.2} ms");
    Ok(())
}

/// A machine that does at once what is wanted, and is asked as much everywhere.
struct House {
    state: State,
    seconds: u64,
    asked: u64,
}

impl House {
    fn now(&self) -> Timestamp {
        Timestamp(self.seconds * 1_000)
    }

    fn apply(&mut self, version: &str) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        let mut file = "stack = \"bench\"\n[edge]\nlisten = \"127.0.0.1:8080\"\n".to_owned();
        for number in 0..ROLLOUTS {
            writeln!(
                file,
                "[service.s{number}]\nrun = [\"./serve\", \"{version}\"]\nreplicas = 4\n\
                 [service.s{number}.rollout]\nstrategy = \"canary\"\nbake = \"0s\"\n\
                 min_ready = \"0s\"\nsteps = [{{ weight = \"5%\", bake = \"1h\" }}]\n\
                 [route.s{number}]\npath = \"/s{number}\"\nto = \"s{number}\""
            )?;
        }
        let (stack, problems) = spec::read(&file, "/srv");
        let Some(wanted) = stack else { anyhow::bail!("the file has problems: {problems:?}") };
        let change =
            Change { wanted, kind: Kind::Apply, force: false, hotfix: None, expect_destroy: None };
        let action = Action::Change(Box::new(change));
        let accepted = self.state.act(action, "bench", &self.world(), self.now())?;
        if let Some(decision) = accepted.decision {
            self.state = decision.state;
        }
        Ok(())
    }

    /// Everything is as if the release under way had been promoted; a thousand services would
    /// take their time to move one after another.
    fn promoted(&mut self) {
        let Some(release) = self.state.release.take() else { return };
        self.state.stack = Arc::clone(&release.wanted);
        for (name, rollout) in &release.rollouts {
            let Some(service) = self.state.services.get_mut(name) else { continue };
            service.stable = Some(rollout.to);
            service.replicas = rollout.replicas;
            service.split = [(rollout.to, Weight::ALL)].into();
        }
    }

    fn until(&mut self, done: impl Fn(&State) -> bool) -> anyhow::Result<()> {
        for _ in 0..LOOKS_MAX {
            if done(&self.state) {
                return Ok(());
            }
            if let Some(decision) = self.state.decide(&self.world(), self.now()) {
                self.state = decision.state;
            }
            self.seconds += 1;
        }
        anyhow::bail!("the machine never came so far")
    }

    fn world(&self) -> World {
        let now = self.now();
        let mut platform = Platform::default();
        let mut edge = Edge {
            incarnation: 1,
            serving: Fence { epoch: Epoch(1), generation: self.state.generation },
            listeners: self.state.listeners().into_keys().collect(),
            ..Edge::default()
        };
        let lately = Tally { requests: 1_000, bad: 1 };
        let lately = Lately { errors: lately, slow_tail: lately, slow_middle: lately };
        for (name, service) in &self.state.services {
            for (revision, kept) in &service.revisions {
                let pool = evenkeel_kernel::model::PoolId::new(name, *revision);
                let requests = self.asked;
                let bad = requests / 1_000;
                edge.pools.insert(
                    pool.clone(),
                    Counts { requests, status_5xx: bad, warm: requests, ..Counts::default() },
                );
                for (number, slot) in &kept.slots {
                    if slot.stage != Stage::Active {
                        continue;
                    }
                    let id = pool.instance(*number);
                    let instance = Instance {
                        phase: InstancePhase::Running,
                        since: slot.since,
                        port: slot.port,
                        exits: 0,
                        streak: 0,
                        cpu_milli: None,
                        last_exit: None,
                        pid: None,
                        fence: Fence::default(),
                    };
                    platform.instances.insert(id.clone(), instance);
                    let since = slot.since;
                    let backend =
                        Backend { health: Health::Healthy, since, lately, ..Backend::default() };
                    edge.instances.insert(id, backend);
                }
            }
        }
        World {
            platform: Observed::Known(platform, now),
            edge: Observed::Known(edge, now),
            keeper: Observed::Known(Keeper::default(), now),
            ..World::unknown()
        }
    }
}
