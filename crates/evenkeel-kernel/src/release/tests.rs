//! Stories: a script of what people do and what goes wrong, in a world that otherwise does at once
//! what is wanted of it; out come the notes and every change of sizes and splits.
//!
//! Sizes read `r2 3+1 25 %`: revision, serving and draining instances, part of the traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use expect_test::Expect;

use super::*;
use crate::analysis::{Batch, Tally};
use crate::model::{
    About, Address, Analysis, Ask, Check, CheckId, CheckName, DatabaseName, Edge, Epoch, Exposure,
    Gate, GateWebhook, Generation, Health as Probing, InstanceId, Limits, Number, PoolId, Protocol,
    Rollout as Policy, Route, Scale, Service as Described, ServiceName, Share, Stack, Step, Stop,
    Strategy, Traffic, Weight, When, Workload,
};
use crate::time::Timestamp;
use crate::want::Want;
use crate::world::{
    self, Backend, Counts, Decided, Fence, Health, InstancePhase, Lately, Measured, Observed,
    Readers, Reading, World,
};

mod affinity;
mod again;
mod analysis;
mod back;
mod checks;
mod control;
mod drops;
mod forward;
mod gates;
mod holds;
mod jobs;
mod people;
mod readers;
mod scaling;
mod scenarios;
mod schemas;
mod zero;

/// Seconds from the start of an instance until it is healthy.
const STARTS_IN: u64 = 2;

/// Plays `script` on a stack of `services` and compares what happens with `expected`.
///
/// A service is `web 3 rolling [uses db] [bake 20] [holds]`, or `blue-green`, or
/// `canary 10,50`; a line of the script is a second and what happens then.
fn check(services: &str, script: &str, expected: &Expect) {
    expected.assert_eq(&play(services, script).lines);
}

fn play(services: &str, script: &str) -> Story {
    let mut story = Story::new(services);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (at, what) = line.split_once(' ').unwrap();
        story.run_until(at.parse().unwrap());
        if story.happens(what) {
            story.settle();
        }
    }
    story
}

/// What the script made of an instance or a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It never gets healthy.
    Never,
    /// It ends as often as it is started.
    Crashes,
    /// It is unhealthy now.
    Sick,
    /// Its requests fail.
    Fails,
}

/// A plan says what the change then comes to.
fn assert_foreseen(
    foreseen: &Prospect,
    force: bool,
    expected: Option<u32>,
    answer: &Result<Accepted, Refusal>,
) {
    let agrees = match (foreseen, answer) {
        (Prospect::Nothing, Ok(it)) => it.decision.is_none() && it.release.is_none(),
        (Prospect::OnItsWay(id), Ok(it)) => it.decision.is_none() && it.release == Some(*id),
        (Prospect::Release { held_back: Some(reason), .. }, Err(refusal)) => {
            !force && refusal.reason == *reason
        }
        (Prospect::Release { locked: Some(closed), .. }, Err(refusal)) => {
            refusal.reason == closed.reason
        }
        (Prospect::Release { removal, .. }, Err(refusal)) => {
            removal.refuses(expected).is_some_and(|reason| reason == refusal.reason)
        }
        (Prospect::Release { before, held_back, .. }, Ok(it)) => {
            it.decision.is_some()
                && (force || held_back.is_none())
                && before.as_ref().is_none_or(|before| it.text.ends_with(before))
        }
        (_, Err(_)) => false,
    };
    assert!(agrees, "foreseen was {foreseen:?}, and it came to {answer:?}");
}

/// The requests of one pool.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    per_second: u64,
    bad_permille: u64,
    /// Since the beginning; bad ones in thousandths.
    asked: u64,
    bad: u64,
    /// Both when this load began.
    before: (u64, u64),
}

impl Load {
    fn lately(self, instances: u64) -> Tally {
        let (asked, bad) = self.before;
        let share = |count: u64| count / instances.max(1);
        Tally { requests: share(self.asked - asked), bad: share((self.bad - bad) / 1000) }
    }
}

struct Story {
    file: Stack,
    state: State,
    second: u64,
    running: BTreeMap<InstanceId, (u64, u16)>,
    fates: BTreeMap<String, Fate>,
    loads: BTreeMap<String, Load>,
    /// What each check is answered, by its name; `gate` for the webhook of a gate.
    readings: BTreeMap<String, Reading>,
    /// Requests that wait for a service, and when it was asked last.
    demand: BTreeMap<ServiceName, world::Demand>,
    /// Requests in flight by pool; `None`: nobody measures it.
    busy: BTreeMap<String, Option<u32>>,
    /// What is done with databases, and since when.
    migrations: BTreeMap<DatabaseName, schemas::Doing>,
    commits: u32,
    taken: BTreeSet<u16>,
    refused: bool,
    /// A listener that cannot be opened at its first port.
    refuses: Option<String>,
    blind: bool,
    /// The edge takes no table.
    deaf: bool,
    /// Who goes to instances by itself, and since when the edge gives each nothing new.
    readers: BTreeMap<ServiceName, Readers>,
    draining: BTreeMap<InstanceId, Timestamp>,
    /// How many hours the clocks are ahead of the story's; nobody can see them without.
    zone: Option<i32>,
    incarnation: u64,
    edge_since: u64,
    serving: Fence,
    listeners: Vec<String>,
    shown: String,
    lines: String,
}

impl Story {
    fn new(services: &str) -> Self {
        let mut file = Stack::empty("shop".parse().unwrap());
        file.edge = Edge { listen: vec!["127.0.0.1:8080".parse().unwrap()], ..Edge::default() };
        for line in services.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(line) = line.strip_prefix("job ") {
                let (name, job) = jobs::described(line);
                file.jobs.insert(name, job);
                continue;
            }
            let (name, service) = described(line);
            if line.contains(" needs ") {
                let route = Route::plain(None, "/".to_owned(), name.clone());
                file.routes.insert(name.as_str().parse().unwrap(), route);
            }
            file.services.insert(name, service);
        }
        let ports = Ports { first: 20_000, last: 20_999, next: 20_000 };
        Self {
            state: State::new(Stack::empty(file.name.clone()), ports),
            file,
            second: 0,
            running: BTreeMap::new(),
            fates: BTreeMap::new(),
            loads: BTreeMap::new(),
            readings: BTreeMap::new(),
            demand: BTreeMap::new(),
            busy: BTreeMap::new(),
            migrations: BTreeMap::new(),
            commits: 0,
            taken: BTreeSet::new(),
            refused: false,
            refuses: None,
            blind: false,
            deaf: false,
            readers: BTreeMap::new(),
            draining: BTreeMap::new(),
            zone: Some(0),
            incarnation: 1,
            edge_since: 0,
            serving: Fence::default(),
            listeners: Vec::new(),
            shown: String::new(),
            lines: String::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.second * 1000)
    }

    fn say(&mut self, text: &str) {
        writeln!(self.lines, "{} {text}", self.second).unwrap();
    }

    fn run_until(&mut self, second: u64) {
        while self.second < second {
            self.settle();
            self.second += 1;
            for load in self.loads.values_mut() {
                load.asked += load.per_second;
                load.bad += load.per_second * load.bad_permille;
            }
        }
    }

    /// Decides until nothing changes, and does what is wanted then.
    fn settle(&mut self) {
        for _ in 0..50 {
            let world = self.world();
            let Some(decision) = self.state.decide(&world, self.now()) else {
                let waits = self.state.waits(&world, self.now());
                let silent = self.state.release.is_some() && waits.is_empty();
                // What was only now decided is done within this second.
                let current = self.serving.generation == self.state.generation;
                assert!(
                    !(silent && current),
                    "it waits and does not say for what:\n{}",
                    self.lines
                );
                return self.obey();
            };
            self.take(decision);
        }
        panic!("the kernel never comes to a decision");
    }

    fn take(&mut self, decision: Decision) {
        self.commits += 1;
        for note in decision.notes {
            self.say(&note.text);
        }
        self.state = decision.state;
        let sizes = self.sizes();
        if sizes != self.shown {
            self.say(&format!("  {sizes}"));
            self.shown = sizes;
        }
    }

    fn sizes(&self) -> String {
        let mut services = Vec::new();
        for (name, service) in &self.state.services {
            let mut text = name.to_string();
            for (revision, kept) in &service.revisions {
                let active = kept.active().count();
                if kept.slots.is_empty() {
                    continue;
                }
                let draining = kept.slots.len() - active;
                let weight = service.weight(*revision);
                write!(text, " {revision} {active}+{draining} {weight}").unwrap();
            }
            services.push(text);
        }
        services.join(" | ")
    }

    fn obey(&mut self) {
        let mut wanted = BTreeSet::new();
        for want in self.state.wants(Epoch(1)) {
            match want {
                Want::Listeners(sockets) => self.listeners = sockets.into_keys().collect(),
                Want::Table(_) if self.deaf => {}
                Want::Table(table) => {
                    self.serving = table.fence;
                    self.drain(&table);
                }
                Want::Checks(_) => {}
                Want::Schemas(all) => self.migrate(all),
                Want::Pool(pool) => {
                    for (number, slot) in &pool.slots {
                        let id = pool.id.instance(*number);
                        wanted.insert(id.clone());
                        let started = self.running.entry(id).or_insert((self.second, slot.port));
                        if started.1 != slot.port {
                            *started = (self.second, slot.port);
                        }
                    }
                }
            }
        }
        self.running.retain(|id, _| wanted.contains(id));
    }

    /// Notes who gets nothing new from now on.
    fn drain(&mut self, table: &crate::routing::RoutingTable) {
        for (name, service) in &table.services {
            for (revision, pool) in &service.pools {
                let slots = pool.instances.iter().filter(|(_, it)| it.draining);
                for (slot, _) in slots {
                    let id = PoolId::new(name, *revision).instance(*slot);
                    self.draining.entry(id).or_insert(Timestamp(self.second * 1_000));
                }
            }
        }
    }

    fn fate(&self, id: &InstanceId) -> Option<Fate> {
        let pool = format!("{}.{}", id.pool.service, id.pool.revision);
        self.fates.get(&id.to_string()).or_else(|| self.fates.get(&pool)).copied()
    }

    /// How many instances of a pool share its requests.
    fn ready(&self, pool: &PoolId) -> u32 {
        let all = self.running.iter().filter(|(id, _)| id.pool == *pool);
        let ready = all.filter(|(id, (started, _))| {
            self.fate(id).is_none() && self.second >= started + STARTS_IN
        });
        u32::try_from(ready.count()).unwrap()
    }

    fn world(&self) -> World {
        if self.blind {
            return World::unknown();
        }
        let now = self.now();
        let mut platform = world::Platform::default();
        let mut edge = world::Edge {
            incarnation: self.incarnation,
            serving: self.serving,
            listeners: self.listeners.clone(),
            readers: self.readers.clone(),
            demand: self.demand.clone(),
            ..world::Edge::default()
        };
        for (id, (started, port)) in &self.running {
            let fate = self.fate(id);
            let age = self.second - started;
            if self.is_job(id) {
                platform.instances.insert(id.clone(), jobs::seen(fate, *started, age, *port));
                continue;
            }
            let crashes = fate == Some(Fate::Crashes);
            let instance = world::Instance {
                phase: match (self.taken.contains(port), crashes) {
                    (true, _) => InstancePhase::PortTaken,
                    (false, true) => InstancePhase::Backoff,
                    (false, false) => InstancePhase::Running,
                },
                since: Timestamp(started * 1000),
                port: *port,
                exits: if crashes { u32::try_from(age / 2).unwrap() } else { 0 },
                streak: if crashes { u32::try_from(age / 2).unwrap() } else { 0 },
                last_exit: crashes.then(|| "exit status 1".to_owned()),
                pid: None,
                cpu_milli: None,
                fence: Fence::default(),
            };
            platform.instances.insert(id.clone(), instance);
            let ready = (started + STARTS_IN).max(self.edge_since + 1);
            let unknown = (*started).max(self.edge_since);
            let (health, since) = match fate {
                Some(Fate::Never | Fate::Crashes) => (Health::Unknown, unknown),
                Some(Fate::Sick) => (Health::Unhealthy, *started),
                Some(Fate::Fails) | None if self.second >= ready && !self.taken.contains(port) => {
                    (Health::Healthy, ready)
                }
                Some(Fate::Fails) | None => (Health::Unknown, unknown),
            };
            let since = Timestamp(since * 1000);
            let pool = format!("{}.{}", id.pool.service, id.pool.revision);
            let load = self.loads.get(&pool).copied().unwrap_or_default();
            let siblings = self.running.keys().filter(|it| it.pool == id.pool).count() as u64;
            let lately = Lately { errors: load.lately(siblings), ..Lately::default() };
            let busy = self.busy.get(&pool).copied().unwrap_or(Some(0));
            let load_milli = busy.map(|busy| busy * 1_000 / self.ready(&id.pool).max(1));
            let draining = self.draining.get(id).copied();
            let backend =
                Backend { health, since, lately, load_milli, draining, ..Backend::default() };
            edge.instances.insert(id.clone(), backend);
            let (requests, status_5xx) = (load.asked, load.bad / 1000);
            let counts = Counts { requests, status_5xx, ..Counts::default() };
            edge.pools.insert(id.pool.clone(), counts);
            if fate == Some(Fate::Fails) {
                let counts = Counts { failed_streaks: 1, ..Counts::default() };
                edge.pools.insert(id.pool.clone(), counts);
            }
        }
        let error = |name: &String| {
            let refused =
                self.refused && name.ends_with(":9090") || self.refuses.as_ref() == Some(name);
            refused.then(|| "address in use".to_owned())
        };
        let wanted = self.state.listeners().into_keys();
        let keeper =
            world::Keeper { listeners: wanted.map(|name| (name.clone(), error(&name))).collect() };
        edge.listeners.retain(|name| error(name).is_none());
        World {
            platform: Observed::Known(platform, now),
            edge: Observed::Known(edge, now),
            keeper: Observed::Known(keeper, now),
            checks: self.answers(),
            schemas: self.schemas(),
            calendar: self.calendar(),
        }
    }

    /// What those that are asked say, at once.
    fn answers(&self) -> BTreeMap<CheckId, world::Answer> {
        let checks = self.state.wanted_checks().into_iter().filter_map(|check| {
            let name = match &check.id.about {
                About::Check(name) => name.as_str(),
                About::Gate { .. } => "gate",
            };
            let reading = self.readings.get(name)?.clone();
            Some((check.id, world::Answer { run: check.run, reading }))
        });
        checks.collect()
    }

    /// Lets one line of the script happen. Says whether the kernel looks at it at once.
    fn happens(&mut self, what: &str) -> bool {
        let words: Vec<&str> = what.split_whitespace().collect();
        match words[..] {
            ["end"] => return false,
            ["blind"] => self.blind = true,
            ["sees"] => self.blind = false,
            ["edge", "takes", "no", "table"] => self.deaf = true,
            ["edge", "takes", "tables"] => self.deaf = false,
            ["resumed"] => self.state = self.state.resumed(self.now()),
            ["edge", "restarts"] => {
                self.incarnation += 1;
                self.edge_since = self.second;
            }
            ["taken", port] => {
                self.taken.insert(port.parse().unwrap());
            }
            ["load", pool, per_second, bad_permille] => {
                let load = self.loads.entry(pool.to_owned()).or_default();
                load.before = (load.asked, load.bad);
                load.per_second = per_second.parse().unwrap();
                load.bad_permille = bad_permille.parse().unwrap();
                return false;
            }
            ["says", check, ref reading @ ..] => {
                let number = |at: usize| reading[at].parse::<u64>().unwrap();
                let tally = |at| Tally { requests: number(at), bad: number(at + 1) };
                let reading = match *reading {
                    ["done"] => Some(Reading::Done),
                    ["failed"] => Some(Reading::Failed("exit status 1".to_owned())),
                    ["error"] => Some(Reading::Error("nobody answers".to_owned())),
                    ["nothing"] => Some(Reading::Nothing("no sample".to_owned())),
                    ["counts", ..] => {
                        Some(Reading::Counts(Batch { canary: tally(1), stable: tally(3) }))
                    }
                    ["silence"] => None,
                    ["approved", ref by @ ..] => {
                        let by = by.first().map(|by| (*by).to_owned());
                        Some(Reading::Decided(Decided::Approved { by }))
                    }
                    ["refused", ref why @ ..] => {
                        let reason = Some(why.join(" "));
                        Some(Reading::Decided(Decided::Refused { reason }))
                    }
                    [value] => {
                        let value = Measured::Number(value.parse().unwrap());
                        Some(Reading::Values(vec![(String::new(), value)]))
                    }
                    _ => None,
                };
                self.readings.remove(check);
                self.readings.extend(reading.map(|it| (check.to_owned(), it)));
                return false;
            }
            ["busy", pool, in_flight] => {
                self.busy.insert(pool.to_owned(), in_flight.parse().ok());
                return false;
            }
            ["waits", name, waiting] => {
                let asked = self.now();
                let demand = world::Demand { waiting: waiting.parse().unwrap(), asked };
                self.demand.insert(name.parse().unwrap(), demand);
            }
            ["why"] => {
                for wait in self.state.waits(&self.world(), self.now()) {
                    let error = wait.last_error.map(|it| format!(" ({it})")).unwrap_or_default();
                    self.say(&format!("? {}{error}", wait.what));
                }
                return false;
            }
            // Somebody goes by DNS; or by xDS, and takes what there is now and nothing more.
            ["asked", service] => {
                self.readers.insert(service.parse().unwrap(), Readers::default());
            }
            ["takes", service] => {
                let taken = Some(self.serving.generation);
                self.readers.insert(service.parse().unwrap(), Readers { taken });
            }
            ["refused"] => self.refused = true,
            ["well", who] => {
                self.fates.remove(who);
            }
            [fate @ ("never" | "crashes" | "sick" | "fails"), who] => {
                let fate = match fate {
                    "never" => Fate::Never,
                    "crashes" => Fate::Crashes,
                    "sick" => Fate::Sick,
                    _ => Fate::Fails,
                };
                self.fates.insert(who.to_owned(), fate);
                return false;
            }
            ["zone", shift] => self.zone = Some(shift.parse().unwrap()),
            ["no", "clocks"] => self.zone = None,
            _ => self.asks(what, &words),
        }
        true
    }

    fn asks(&mut self, what: &str, words: &[&str]) {
        self.say(&format!("> {what}"));
        let force = words.contains(&"--force");
        let world = self.world();
        let said = |word: &&&str| !word.starts_with("by=") && !word.starts_with("because=");
        let plain: Vec<&str> = words.iter().filter(said).copied().collect();
        let reason = words.iter().find_map(|word| word.strip_prefix("because="));
        let action = self.action(&plain, force, reason.map(str::to_owned));
        let mut foreseen = None;
        if let Action::Change(change) = &action {
            let (wanted, is_hotfix) = (&change.wanted, change.hotfix.is_some());
            let expected = change.expect_destroy;
            foreseen = Some((self.state.prospect(wanted, is_hotfix, &world, self.now()), expected));
        }
        let who = words.iter().find_map(|word| word.strip_prefix("by="));
        let answer = self.state.act(action, who.unwrap_or("ann"), &world, self.now());
        if let Some((foreseen, expected)) = foreseen {
            assert_foreseen(&foreseen, force, expected, &answer);
        }
        match answer {
            Ok(Accepted { decision, text, .. }) => {
                self.say(&format!("< {text}"));
                if let Some(decision) = decision {
                    self.take(decision);
                }
            }
            Err(refusal) => self.say(&format!("< refused: {refusal}")),
        }
    }

    fn action(&mut self, words: &[&str], force: bool, reason: Option<String>) -> Action {
        let service = |name: &str| name.parse::<ServiceName>().unwrap();
        match words {
            ["pause"] => Action::Pause { reason },
            ["resume"] => Action::Resume,
            ["promote"] => Action::Promote { full: false },
            ["promote", "full"] => Action::Promote { full: true },
            ["approve"] => Action::Approve { force: None },
            ["approve", "--force"] => Action::Approve { force: Some("it burns".to_owned()) },
            ["lock", reason] => Action::Lock { reason: (*reason).to_owned() },
            ["unlock"] => Action::Unlock,
            ["abort"] => Action::Abort { reason },
            ["rollback", rest @ ..] => {
                let mut rest = rest.iter().filter(|word| !word.starts_with("--"));
                let to = rest.next().map(|name| {
                    let number = rest.next().map(|it| it[1..].parse().unwrap());
                    (service(name), number.map(crate::model::RevisionNumber))
                });
                Action::Rollback { to, force, reason }
            }
            ["hold", name, seconds] => {
                let lasts = Duration::from_secs(seconds.parse().unwrap());
                Action::Hold { service: service(name), lasts, reason }
            }
            ["unhold", name] => Action::Unhold { service: service(name) },
            ["scale", name, replicas] => {
                Action::Scale { service: service(name), replicas: replicas.parse().unwrap() }
            }
            ["restart", names @ ..] => {
                let names = names.iter().filter(|word| **word != "--force");
                Action::Restart { services: names.map(|name| service(name)).collect(), force }
            }
            ["apply", changes @ ..] => {
                for change in changes.iter().filter(|word| !word.starts_with("--")) {
                    self.edit(change);
                }
                let wanted = self.file.clone();
                let hotfix = words.contains(&"--hotfix").then(|| "it burns".to_owned());
                let expected = words.iter().find_map(|word| word.strip_prefix("--destroy="));
                let expect_destroy = expected.map(|count| count.parse().unwrap());
                let kind = Kind::Apply;
                Action::Change(Box::new(Change { wanted, kind, force, hotfix, expect_destroy }))
            }
            other => panic!("{other:?} is no command"),
        }
    }

    /// Edits the file: `web:v2`, `web=5` (replicas), `web~2-8` (its bounds), `-web`, `/api>web` (a
    /// route), `:9090`.
    fn is_job(&self, id: &InstanceId) -> bool {
        let kept = self.state.kept(&id.pool.service, id.pool.revision);
        kept.is_some_and(Kept::is_job)
    }

    /// Edits the file: `web:v2`, `web=5` (replicas), `-web`, `/api>web` (a route), `:9090`.
    fn edit(&mut self, change: &str) {
        if control::edit(&mut self.file, change) || schemas::edit(&mut self.file, change) {
        } else if let Some(name) = change.strip_prefix('-') {
            self.file.services.remove(&name.parse::<ServiceName>().unwrap());
            self.file.routes.retain(|_, route| route.to().is_none_or(|to| to.as_str() != name));
        } else if let Some((path, to)) = change.split_once('>') {
            let route = Route::plain(None, path.to_owned(), to.parse().unwrap());
            self.file.routes.insert("main".parse().unwrap(), route);
        } else if let Some(port) = change.strip_prefix(':') {
            self.file.edge.listen.push(format!("127.0.0.1:{port}").parse().unwrap());
        } else if let Some((name, bounds)) = change.split_once('~') {
            let service = self.file.services.get_mut(&name.parse::<ServiceName>().unwrap());
            service.unwrap().scale = Some(scales(bounds));
        } else if let Some((name, replicas)) = change.split_once('=') {
            let service = self.file.services.get_mut(&name.parse::<ServiceName>().unwrap());
            service.unwrap().replicas = replicas.parse().unwrap();
        } else if let Some((name, version)) = change.split_once(':') {
            let mut all = self.file.workloads_mut();
            let workload = all.find(|(it, _)| it.as_str() == name).map(|(_, workload)| workload);
            workload.unwrap().run = vec!["./run".to_owned(), version.to_owned()];
        }
    }
}

/// A check: `smoke:before`, `jobs:during:counts`, `queue:during:max`, `… :dry`.
fn asked(text: &str) -> (CheckName, Check) {
    let words: Vec<&str> = text.split(':').collect();
    let most = Some(Number(10_000_000));
    let expect = crate::model::Expect { max: most, ..Default::default() };
    let text = |text: &str| text.to_owned();
    let ask = match words.get(2) {
        Some(&"counts") => {
            Ask::Counters { path: text("/metrics"), total: text("jobs"), bad: text("lost") }
        }
        Some(&"max") => Ask::Http { url: text("/queue"), json: Some(text("/n")), expect },
        _ => Ask::Command { run: vec![text("./smoke")], dir: text("/") },
    };
    let check = Check {
        ask,
        when: match words[1] {
            "before" => When::Before,
            "after" => When::After,
            _ => When::During,
        },
        every: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        failures: if words.contains(&"twice") { 2 } else { 1 },
        errors: 3,
        dry_run: words.contains(&"dry"),
    };
    (words[0].parse().unwrap(), check)
}

fn described(line: &str) -> (ServiceName, Described) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|it| *it == word)?;
        words.get(at + 1).copied()
    };
    let seconds = |word: &str, default: u64| {
        Duration::from_secs(after(word).map_or(default, |text| text.parse().unwrap()))
    };
    let strategy = match words[2] {
        "rolling" => {
            Strategy::Rolling { max_surge: Share::Count(1), max_unavailable: Share::Count(0) }
        }
        "blue-green" => Strategy::BlueGreen { preview: after("preview").map(str::to_owned) },
        _ => {
            let weights = words[3].split(',').map(|weight| weight.parse::<u16>().unwrap() * 100);
            let webhook = words.contains(&"hooked").then(|| GateWebhook {
                to: Address::Url("https://change.example.com/secret".to_owned()),
                secret: None,
            });
            let step = |weight| Step {
                exposure: Exposure::Weight(Weight(weight)),
                bake: Duration::from_secs(5),
                gate: match after("gated") {
                    None => words.contains(&"gated").then(|| {
                        let webhook = webhook.clone();
                        Gate { webhook, ..Gate::default() }
                    }),
                    Some(who) => Some(Gate {
                        approvers: who.split(',').map(str::to_owned).collect(),
                        own: false,
                        webhook: webhook.clone(),
                    }),
                },
            };
            Strategy::Canary { steps: weights.map(step).collect() }
        }
    };
    let workload = Workload {
        run: vec!["./run".to_owned(), "v1".to_owned()],
        dir: "/".to_owned(),
        env: BTreeMap::new(),
        env_files: Vec::new(),
        files: BTreeMap::new(),
        uses: after("uses").map(|used| used.parse().unwrap()).into_iter().collect(),
        databases: after("reads").map(schemas::read).into_iter().collect(),
        health: Probing::default(),
        stop: Stop::default(),
        limits: Limits::default(),
        exclusive: false,
        config: Vec::new(),
        secrets: BTreeMap::new(),
        restarts: 0,
        once: false,
        protocol: Protocol::default(),
        tls: None,
    };
    let rollout = Policy {
        exposed: crate::model::Exposed::default(),
        strategy,
        min_ready: Duration::from_secs(1),
        start_deadline: Duration::from_secs(30),
        progress_deadline: Duration::from_secs(60),
        failure_budget: None,
        bake: seconds("bake", 10),
        auto_rollback: !words.contains(&"holds"),
        analysis: Analysis {
            min_requests: Some(after("needs").map_or(0, |text| text.parse().unwrap())),
            ..Analysis::default()
        },
        checks: after("asks").into_iter().flat_map(|it| it.split(',')).map(asked).collect(),
        affinity: words.contains(&"affine"),
    };
    let scale = after("scales").map(scales);
    let service = Described {
        workload,
        replicas: words[1].parse().unwrap(),
        rollout,
        scale,
        traffic: Traffic::default(),
    };
    (words[0].parse().unwrap(), service)
}

/// `2-10`: bounds, at ten requests in flight per instance.
fn scales(bounds: &str) -> Scale {
    let (min, max) = bounds.split_once('-').unwrap();
    Scale {
        min: min.parse().unwrap(),
        max: max.parse().unwrap(),
        in_flight: Some(10),
        cpu: None,
        up_after: Duration::from_secs(4),
        down_after: Duration::from_secs(30),
        zero_after: Duration::from_secs(60),
    }
}
