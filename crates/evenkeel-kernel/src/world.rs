//! The world: everything observed, and nothing concluded from it.
//!
//! A part that could not be observed is `Unknown`, which is not the same as empty: nothing is
//! destroyed because of something nobody saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::analysis::{Batch, Tally, Track};
use crate::calendar::Calendar;
use crate::model::{
    CertificateName, CheckId, DatabaseName, Epoch, Generation, InstanceId, PoolId, ServiceName,
};
use crate::time::Timestamp;

/// A value with the moment it was seen, or the fact that it could not be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed<T> {
    /// Seen at that moment.
    Known(T, Timestamp),
    /// Not seen, and why.
    Unknown(String),
}

impl<T> Observed<T> {
    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value, _) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// Everything observed about one target.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// What the platform says of instances.
    pub platform: Observed<Platform>,
    /// What the edge says of routing, health and requests.
    pub edge: Observed<Edge>,
    /// What the keeper says of the listening sockets.
    pub keeper: Observed<Keeper>,
    /// The answers that checks and gates have got. A question that is not here has none yet.
    pub checks: BTreeMap<CheckId, Answer>,
    /// How far the schemas of databases are. One that is not here was not looked at yet.
    pub schemas: BTreeMap<DatabaseName, Schema>,
    /// What the clocks say in the zones that the state names.
    pub calendar: Observed<Calendar>,
}

impl World {
    /// How far this revision of a database's schema is; nothing while another is looked at.
    #[must_use]
    pub fn schema(&self, database: &DatabaseName, revision: u32) -> Option<&Schema> {
        self.schemas.get(database).filter(|seen| seen.revision == revision)
    }

    /// A world of which nothing has been seen yet.
    #[must_use]
    pub fn unknown() -> Self {
        let not_yet = "not observed yet".to_owned();
        Self {
            platform: Observed::Unknown(not_yet.clone()),
            edge: Observed::Unknown(not_yet.clone()),
            keeper: Observed::Unknown(not_yet.clone()),
            calendar: Observed::Unknown(not_yet),
            checks: BTreeMap::new(),
            schemas: BTreeMap::new(),
        }
    }
}

/// How far the schema of one database is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The revision of the schema that it is about.
    pub revision: u32,
    /// The last target that was reached; none at the beginning.
    pub done: Option<SchemaTarget>,
    /// What is being done.
    pub doing: Option<Doing>,
    /// Why it does not get on, for people: a fragment.
    pub trouble: Option<Trouble>,
}

/// What is being done with a schema, on the way to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The new shape is made beside the old one.
    Expanding,
    /// Rows that are there get their new values.
    Filling(Filling),
    /// Nobody fills them for now.
    Paused(Filling),
    /// Indexes are built and rules checked.
    Tightening,
    /// The old shape is taken away.
    Contracting,
    /// The new shape is taken away.
    Undoing,
}

/// How far rows that are there have their new values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// How many were filled.
    pub rows: u64,
    /// How many there are thought to be.
    pub of: u64,
    /// How much of the work is done, in thousandths.
    pub permille: u16,
    /// Rows a second; none while nobody fills them.
    pub rate: Option<u64>,
    /// How long it goes on at that rate; none while nobody can say.
    pub left: Option<Duration>,
}

impl Doing {
    /// The same when somebody pauses it. Only filling can be.
    #[must_use]
    pub fn paused(self) -> Self {
        match self {
            Self::Filling(it) => Self::Paused(Filling { rate: None, left: None, ..it }),
            Self::Expanding
            | Self::Paused(_)
            | Self::Tightening
            | Self::Contracting
            | Self::Undoing => self,
        }
    }

    /// How far rows have their new values, while they get them.
    #[must_use]
    pub fn filling(self) -> Option<Filling> {
        match self {
            Self::Filling(it) | Self::Paused(it) => Some(it),
            Self::Expanding | Self::Tightening | Self::Contracting | Self::Undoing => None,
        }
    }

    /// The target that it leads to.
    #[must_use]
    pub fn target(self) -> SchemaTarget {
        match self {
            Self::Expanding | Self::Filling(_) | Self::Paused(_) | Self::Tightening => {
                SchemaTarget::Ready
            }
            Self::Contracting => SchemaTarget::Contracted,
            Self::Undoing => SchemaTarget::Undone,
        }
    }

    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Expanding => "expanding",
            Self::Filling(_) => "filling",
            Self::Paused(_) => "paused",
            Self::Tightening => "tightening",
            Self::Contracting => "contracting",
            Self::Undoing => "undoing",
        }
    }
}

/// Why a schema does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For people: a fragment.
    pub why: String,
    /// Trying again does not help: rows break a rule, a statement is wrong.
    pub is_final: bool,
}

/// Where the schema of a database is to be brought.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaTarget {
    /// The new shape is there beside the old one, and both are kept in step; all rows have their new
    /// values, and it is held to its rules.
    // A state that was saved when there was a target on the way here.
    #[serde(alias = "expanded")]
    Ready,
    /// The old shape is gone.
    Contracted,
    /// The new shape is gone.
    Undone,
}

impl SchemaTarget {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Contracted => "contracted",
            Self::Undone => "undone",
        }
    }

    /// Whether what was done last has brought the schema here.
    #[must_use]
    pub fn is_reached(self, done: Option<Self>) -> bool {
        match self {
            Self::Undone => done == Some(Self::Undone),
            Self::Ready | Self::Contracted => {
                done.is_some_and(|done| done >= self && done != Self::Undone)
            }
        }
    }
}

/// The answer to one question of a check or a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The question's number.
    pub run: u32,
    /// What was found out.
    pub reading: Reading,
}

/// What a check found out. What it means is not said here.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// It was done: a command succeeded, a page was there.
    Done,
    /// It was not, and how.
    Failed(String),
    /// Values, each with what it is of; nothing is said of that where there is only one.
    Values(Vec<(String, Measured)>),
    /// What both revisions have counted since they began.
    Counts(Batch),
    /// There is nothing to be measured, and why.
    Nothing(String),
    /// It could not be found out, and why.
    Error(String),
    /// Who was asked at a gate has decided.
    Decided(Decided),
}

/// What somebody who was asked at a gate has decided. The texts are theirs, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The step may be left.
    Approved {
        /// In whose name.
        by: Option<String>,
    },
    /// The release shall be taken back.
    Refused {
        /// Why.
        reason: Option<String>,
    },
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// A number.
    Number(f64),
    /// A text, or what JSON says that is no number.
    Text(String),
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What the keeper says of the listening sockets it was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keeper {
    /// Each listener by name, with the reason why it could not be opened, if it could not.
    pub listeners: BTreeMap<String, Option<String>>,
}

/// What a platform says of its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Platform {
    /// Every instance that exists, wanted or not; one that has ended and was cleaned away is not
    /// listed.
    pub instances: BTreeMap<InstanceId, Instance>,
}

impl Platform {
    /// The instances of one pool; costs no more than they are many.
    pub fn of_pool<'a>(
        &'a self,
        pool: &PoolId,
    ) -> impl Iterator<Item = (&'a InstanceId, &'a Instance)> + use<'a> {
        self.instances.range(pool.instance(0)..=pool.instance(u32::MAX))
    }
}

/// A process that has run for so long is up: what ends it later is a new story. As long as
/// Kubernetes waits before it forgets a crash.
pub const STEADY: Duration = Duration::from_secs(600);

/// What a platform says of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// What it is doing.
    pub phase: InstancePhase,
    /// Since when.
    pub since: Timestamp,
    /// The port it was given.
    pub port: u16,
    /// How often its process has ended without being asked to.
    pub exits: u32,
    /// How many of these came in a row, with no run of [`STEADY`] in between.
    pub streak: u32,
    /// How its process last ended: `exit status 1`, `signal 9 (KILL)`.
    pub last_exit: Option<String>,
    /// The process, while there is one.
    pub pid: Option<u32>,
    /// The processor time that all its processes use together, in thousandths of a core, over the
    /// last seconds; `None` where that is not asked for ([`crate::want::Pool::measured`]) or not
    /// known.
    pub cpu_milli: Option<u32>,
    /// The highest epoch and generation its shim has been spoken to with.
    pub fence: Fence,
}

impl Instance {
    /// How often in a row its process has ended by itself, up to now.
    #[must_use]
    pub fn failures(&self, now: Timestamp) -> u32 {
        let steady = self.phase == InstancePhase::Running && now.since(self.since) >= STEADY;
        if steady { 0 } else { self.streak }
    }
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstancePhase {
    /// Its process runs. Whether it is well is the edge's to say.
    Running,
    /// Its process ended; the next start waits for its backoff.
    Backoff,
    /// It cannot start because its port is taken by a stranger.
    PortTaken,
    /// It cannot start at all: the program is missing or may not be run.
    Unstartable,
    /// It was asked to end.
    Stopping,
    /// Its shim is gone; whether its process lives is unknown to the platform's shims.
    Lost,
    /// It was to run once and has ended; nothing of it runs.
    Ended {
        /// With exit status 0. One whose end nobody saw has not ended well.
        well: bool,
    },
}

/// Which controller and which decision an order belongs to. Executors refuse lower ones.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Fence {
    /// Which controller.
    pub epoch: Epoch,
    /// Which decision.
    pub generation: Generation,
}

/// What the edge says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// A number drawn when the edge process started; counters start at zero with it.
    pub incarnation: u64,
    /// The table it serves: every request accepted from now on is routed by it.
    pub serving: Fence,
    /// Names of the listeners it accepts on.
    pub listeners: Vec<String>,
    /// What it knows of each instance in its table.
    pub instances: BTreeMap<InstanceId, Backend>,
    /// What it has counted for each pool in its table.
    pub pools: BTreeMap<PoolId, Counts>,
    /// Requests it answered itself, because no pool could.
    pub unrouted: Unrouted,
    /// Each certificate that it is to show.
    pub certificates: BTreeMap<CertificateName, Certificate>,
    /// The services whose instances clients may go to by themselves, because discovery has told
    /// somebody of them lately, or may have.
    pub readers: BTreeMap<ServiceName, Readers>,
    /// What is asked of each service in its table.
    pub demand: BTreeMap<ServiceName, Demand>,
}

/// Clients that go to the instances of a service by themselves, as discovery told them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Readers {
    /// The newest decision that all have taken of those who say what they have taken (xDS);
    /// `None` where there is nobody who says.
    pub taken: Option<Generation>,
}

impl Readers {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let taken = self.taken.into_iter().chain(other.taken).min();
        Self { taken }
    }
}

/// What is asked of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Requests that wait: for an instance, or because the service is held.
    pub waiting: u32,
    /// When it was asked last, as far as this edge knows: not before it began to look.
    pub asked: Timestamp,
}

/// What the edge knows of one certificate. Nothing at all: it has not looked yet, or has ordered it
/// and waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The one that is shown.
    pub good: Option<Good>,
    /// It could not be had, or no newer one.
    pub failed: Option<Failed>,
}

/// For how long a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// Until then, in seconds since 1970 by the wall clock; for showing.
    pub until: i64,
    /// So long from now; zero: it has run out.
    pub left: Duration,
    /// So long in all.
    pub life: Duration,
}

/// Why a certificate could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In the words of its issuer, or of the system.
    pub why: String,
    /// When it is ordered again; `None`: it is read from files.
    pub again: Option<Duration>,
}

/// What the edge knows of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backend {
    /// What its probes say.
    pub health: Health,
    /// Since when that has been so.
    pub since: Timestamp,
    /// Requests it is answering now.
    pub in_flight: u32,
    /// The mean of `in_flight` over the last seconds, in thousandths; `None` while the edge has not
    /// watched it for long enough.
    pub load_milli: Option<u32>,
    /// Upgraded connections it holds now.
    pub long_lived: u32,
    /// Since when this edge gives it nothing new; `None`: it does, or cannot say.
    pub draining: Option<Timestamp>,
    /// What it counted lately.
    pub lately: Lately,
}

/// What one instance counted over the last minute or two, and longer where that is few requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lately {
    /// Tries, and those of them that failed.
    pub errors: Tally,
    /// See [`Counts::slow_tail`].
    pub slow_tail: Tally,
    /// See [`Counts::slow_middle`].
    pub slow_middle: Tally,
}

impl Lately {
    /// What counts in a track.
    #[must_use]
    pub fn of(&self, track: Track) -> Tally {
        match track {
            Track::Errors => self.errors,
            Track::SlowTail => self.slow_tail,
            Track::SlowMiddle => self.slow_middle,
        }
    }
}

/// What probes say of an instance.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Health {
    /// Not yet probed often enough to say.
    #[default]
    Unknown,
    /// It answers as it should.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// What the edge counted for one pool since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Requests answered, by whichever status; each is counted once, when its answer is complete
    /// or given up.
    pub requests: u64,
    /// Answers 100–199 that ended a request (upgrades).
    pub status_1xx: u64,
    /// Answers 200–299.
    pub status_2xx: u64,
    /// Answers 300–399.
    pub status_3xx: u64,
    /// Answers 400–499.
    pub status_4xx: u64,
    /// Answers 500–599 that the instances gave.
    pub status_5xx: u64,
    /// Requests lost because the connection to the instance could not be made.
    pub connect_failures: u64,
    /// Requests lost because the instance closed the connection before or within its answer.
    pub resets: u64,
    /// Requests lost because the answer did not begin in time.
    pub timeouts: u64,
    /// Tries that failed and were made again on another instance; these are not failures.
    pub retries: u64,
    /// Requests whose client went away first; these are not failures of the pool.
    pub client_gone: u64,
    /// How often ten requests in a row failed.
    pub failed_streaks: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Answers that count for slowness: of instances that have warmed up.
    #[serde(default)]
    pub warm: u64,
    /// Those of them that took longer than [`crate::routing::Slow::tail`].
    #[serde(default)]
    pub slow_tail: u64,
    /// Those of them that took longer than [`crate::routing::Slow::middle`].
    #[serde(default)]
    pub slow_middle: u64,
    /// Time to the first byte of the answer: how many requests took less than each bound of
    /// [`latency_bounds`], and more than the one before; the last is everything slower.
    pub latency: Vec<u64>,
}

impl Counts {
    /// Requests that failed, by whichever cause.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.status_5xx + self.connect_failures + self.resets + self.timeouts
    }

    /// What counts in a track. A try that failed and was made again elsewhere harmed nobody, and
    /// speaks against the pool all the same.
    #[must_use]
    pub fn tally(&self, track: Track) -> Tally {
        match track {
            Track::Errors => {
                let (requests, bad) = (self.requests + self.retries, self.failed() + self.retries);
                Tally { requests, bad }
            }
            Track::SlowTail => Tally { requests: self.warm, bad: self.slow_tail },
            Track::SlowMiddle => Tally { requests: self.warm, bad: self.slow_middle },
        }
    }

    /// What was counted from `earlier` to `self`, by the same edge process.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combined(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, u64::saturating_add)
    }

    fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let buckets = self.latency.len().max(other.latency.len());
        let bucket = |counts: &Self, i: usize| counts.latency.get(i).copied().unwrap_or(0);
        Self {
            requests: with(self.requests, other.requests),
            status_1xx: with(self.status_1xx, other.status_1xx),
            status_2xx: with(self.status_2xx, other.status_2xx),
            status_3xx: with(self.status_3xx, other.status_3xx),
            status_4xx: with(self.status_4xx, other.status_4xx),
            status_5xx: with(self.status_5xx, other.status_5xx),
            connect_failures: with(self.connect_failures, other.connect_failures),
            resets: with(self.resets, other.resets),
            timeouts: with(self.timeouts, other.timeouts),
            retries: with(self.retries, other.retries),
            client_gone: with(self.client_gone, other.client_gone),
            failed_streaks: with(self.failed_streaks, other.failed_streaks),
            in_flight: self.in_flight,
            warm: with(self.warm, other.warm),
            slow_tail: with(self.slow_tail, other.slow_tail),
            slow_middle: with(self.slow_middle, other.slow_middle),
            latency: (0..buckets).map(|i| with(bucket(self, i), bucket(other, i))).collect(),
        }
    }
}

/// Upper bounds of the latency histogram, in microseconds: four per doubling from 100 µs to
/// about 100 s, so that a percentile read from it is at most 19 % too high.
#[must_use]
pub fn latency_bounds() -> Vec<u64> {
    let mut bounds = Vec::with_capacity(81);
    let mut octave = 100_u64;
    for _ in 0..20 {
        // 2^(1/4), 2^(2/4), 2^(3/4) in thousandths.
        bounds.extend([1000, 1189, 1414, 1682].map(|quarter| octave * quarter / 1000));
        octave *= 2;
    }
    bounds.push(octave);
    bounds
}

/// The `quantile` (0 to 1) of a latency histogram: the upper bound of the bucket it falls into.
/// `None` when nothing was counted.
#[must_use]
pub fn latency_quantile(latency: &[u64], quantile: f64) -> Option<Duration> {
    let total: u64 = latency.iter().sum();
    if total == 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among requests; one in 2^52 is exact enough"
    )]
    let rank = ((total as f64) * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
    let bounds = latency_bounds();
    let mut seen = 0;
    for (i, count) in latency.iter().enumerate() {
        seen += count;
        if seen >= rank {
            let bound = bounds.get(i).or(bounds.last()).copied().unwrap_or(0);
            return Some(Duration::from_micros(bound));
        }
    }
    None
}

/// Requests the edge answered itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unrouted {
    /// 404: no route matches.
    pub no_route: u64,
    /// 503: the service has no instance that can be tried.
    pub no_instance: u64,
    /// 503: a bound of the edge itself was reached.
    pub overloaded: u64,
    /// 400 and its kind: the request is malformed, ambiguous or too large.
    pub rejected: u64,
}

impl Unrouted {
    /// What was counted from `earlier` to `self`, by the same edge process.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combined(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, u64::saturating_add)
    }

    fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            no_route: with(self.no_route, other.no_route),
            no_instance: with(self.no_instance, other.no_instance),
            overloaded: with(self.overloaded, other.overloaded),
            rejected: with(self.rejected, other.rejected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_run_ends_a_row_of_failures() {
        let at = |since: u64, phase| Instance {
            phase,
            since: Timestamp(since),
            port: 1,
            exits: 5,
            streak: 2,
            last_exit: None,
            pid: None,
            cpu_milli: None,
            fence: Fence::default(),
        };
        let steady = Timestamp(u64::try_from(STEADY.as_millis()).unwrap());
        assert_eq!(at(0, InstancePhase::Running).failures(steady), 0);
        assert_eq!(at(1, InstancePhase::Running).failures(steady), 2);
        assert_eq!(at(0, InstancePhase::Backoff).failures(steady), 2);
    }

    #[test]
    fn quantiles_come_from_the_bucket_they_fall_into() {
        let mut latency = vec![0; latency_bounds().len() + 1];
        latency[0] = 98;
        latency[4] = 2;
        assert_eq!(latency_quantile(&latency, 0.5), Some(Duration::from_micros(100)));
        assert_eq!(latency_quantile(&latency, 0.99), Some(Duration::from_micros(200)));
        assert_eq!(latency_quantile(&[], 0.99), None);
    }
}
