//! What the analysis of the product says of simulated releases, beside what other rules say of the
//! same requests: how often a sound revision is taken back, and how soon a bad one.
//!
//! The rules beside it are those that tools in use today ship: a bare threshold with so many failed
//! checks (Flagger, Argo Rollouts), a Mann–Whitney test of rates by the minute (Kayenta), and a
//! test of two proportions that is repeated each minute.

use std::fmt::Write as _;

use evenkeel_kernel::analysis::{Batch, Case, Evidence, Tally, Track};
use evenkeel_kernel::model::Tolerance;
use fastrand::Rng;

/// Length of a batch, in seconds.
const BATCH: u32 = 10;
/// Batches in a release: an hour.
const BATCHES: u32 = 360;
/// Batches in a minute, which is how often the other rules look.
const PER_MINUTE: u32 = 6;
/// Instances of the service, and those of them that are canaries.
const INSTANCES: usize = 40;
const CANARIES: usize = 2;
/// What counts as lately of one instance: the edge's windows are so long, and longer where they
/// hold fewer requests.
const WINDOW: u32 = 60;
const WINDOW_REQUESTS: u64 = 1_000;
/// Releases that are simulated of each case.
const RUNS: u32 = 400;

/// One kind of release.
struct Scenario {
    name: &'static str,
    /// Requests a second, over all instances.
    rate: f64,
    /// The stable revision's error rate.
    base: f64,
    /// The canary's, as a multiple of it, and from which minute on.
    worse: f64,
    from_minute: u32,
    /// Errors of both sides in minutes 20 to 26.
    burst: Option<f64>,
    /// How far instances differ: the standard deviation of the logarithm of their rates.
    spread: f64,
}

impl Scenario {
    const fn new(name: &'static str, rate: f64, base: f64, worse: f64) -> Self {
        Self { name, rate, base, worse, from_minute: 0, burst: None, spread: 0.0 }
    }
}

fn scenarios() -> Vec<Scenario> {
    let new = Scenario::new;
    vec![
        new("sound, 10 rps", 10.0, 0.001, 1.0),
        new("sound, 100 rps", 100.0, 0.001, 1.0),
        new("sound, 1000 rps", 1_000.0, 0.001, 1.0),
        new("sound, 2 % errors are normal", 100.0, 0.02, 1.0),
        Scenario { burst: Some(0.05), ..new("sound, a shared burst", 100.0, 0.001, 1.0) },
        Scenario { spread: 0.5, ..new("sound, instances differ (0.5)", 100.0, 0.001, 1.0) },
        Scenario { spread: 1.0, ..new("sound, instances differ (1)", 100.0, 0.001, 1.0) },
        new("3 x the errors, 100 rps", 100.0, 0.001, 3.0),
        new("5 x the errors, 100 rps", 100.0, 0.001, 5.0),
        new("10 x the errors, 10 rps", 10.0, 0.001, 10.0),
        new("10 x the errors, 100 rps", 100.0, 0.001, 10.0),
        new("20 x the errors, 100 rps", 100.0, 0.001, 20.0),
        new("50 x the errors, 100 rps", 100.0, 0.001, 50.0),
        new("300 x the errors, 100 rps", 100.0, 0.001, 300.0),
        Scenario { from_minute: 30, ..new("10 x from minute 30 on", 100.0, 0.001, 10.0) },
    ]
}

/// A rule that is shown batch after batch, and says when it has had enough.
trait Rule {
    fn look(&mut self, moment: &Moment<'_>) -> bool;
}

/// What a rule may look at.
struct Moment<'a> {
    /// From 1.
    number: u32,
    batch: Batch,
    /// What each canary counted lately, and the stable revision.
    canaries: &'a [Tally],
    stable: Tally,
}

/// The product's own.
#[derive(Default)]
struct Ours {
    evidence: Evidence,
}

impl Rule for Ours {
    fn look(&mut self, moment: &Moment<'_>) -> bool {
        let tolerance = Tolerance(2_000);
        self.evidence.gather(moment.batch, tolerance);
        let case = Case {
            track: Track::Errors,
            evidence: &self.evidence,
            tolerance,
            canary: moment.canaries,
            stable: moment.stable,
        };
        case.finding().is_some()
    }
}

/// Fewer than 99 % of a minute's requests succeeded, so many times.
struct Threshold {
    fails_max: u32,
    fails: u32,
    minute: Tally,
}

impl Rule for Threshold {
    fn look(&mut self, moment: &Moment<'_>) -> bool {
        self.minute = self.minute.plus(moment.batch.canary);
        if moment.number.is_multiple_of(PER_MINUTE) {
            self.fails += u32::from(self.minute.rate() > 0.01);
            self.minute = Tally::default();
        }
        self.fails >= self.fails_max
    }
}

/// Two proportions, compared each minute as if it were the only time.
#[derive(Default)]
struct RepeatedZ {
    canary: Tally,
    stable: Tally,
}

impl Rule for RepeatedZ {
    fn look(&mut self, moment: &Moment<'_>) -> bool {
        self.canary = self.canary.plus(moment.batch.canary);
        self.stable = self.stable.plus(moment.batch.stable);
        if !moment.number.is_multiple_of(PER_MINUTE) {
            return false;
        }
        let pooled = self.canary.plus(self.stable).rate();
        let inverse = |tally: Tally| 1.0 / number(tally.requests.max(1));
        let deviation =
            (pooled * (1.0 - pooled) * (inverse(self.canary) + inverse(self.stable))).sqrt();
        // Two-sided at 1 %.
        deviation > 0.0 && (self.canary.rate() - self.stable.rate()) / deviation > 2.576
    }
}

/// Rates by the minute, ranked, every five minutes; at 98 %.
#[derive(Default)]
struct MannWhitney {
    minute: Batch,
    canary: Vec<f64>,
    stable: Vec<f64>,
}

impl Rule for MannWhitney {
    fn look(&mut self, moment: &Moment<'_>) -> bool {
        self.minute.canary = self.minute.canary.plus(moment.batch.canary);
        self.minute.stable = self.minute.stable.plus(moment.batch.stable);
        if !moment.number.is_multiple_of(PER_MINUTE) {
            return false;
        }
        let minute = std::mem::take(&mut self.minute);
        self.canary.push(minute.canary.rate());
        self.stable.push(minute.stable.rate());
        moment.number.is_multiple_of(5 * PER_MINUTE) && self.z() > 2.326
    }
}

impl MannWhitney {
    /// How far the canary's ranks are above the expected, in standard deviations; corrected for
    /// ties.
    fn z(&self) -> f64 {
        let mut all: Vec<(f64, bool)> = self.canary.iter().map(|rate| (*rate, true)).collect();
        all.extend(self.stable.iter().map(|rate| (*rate, false)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0);
        for group in all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
            let size = number(group.len() as u64);
            let middle = number(before) + (size + 1.0) / 2.0;
            ranks += middle * number(group.iter().filter(|it| it.1).count() as u64);
            ties += size.powi(3) - size;
            before += group.len() as u64;
        }
        let (n, m) = (number(self.canary.len() as u64), number(self.stable.len() as u64));
        let whole = n + m;
        let variance = n * m / 12.0 * (whole + 1.0 - ties / (whole * (whole - 1.0)));
        (ranks - n * (n + 1.0) / 2.0 - n * m / 2.0) / variance.sqrt().max(f64::MIN_POSITIVE)
    }
}

const RULES: [&str; 5] =
    ["evenkeel", "< 99 %, 5 fails", "< 99 %, 10 fails", "Mann-Whitney", "z each minute"];

fn rules() -> Vec<Box<dyn Rule>> {
    let threshold = |fails_max| Threshold { fails_max, fails: 0, minute: Tally::default() };
    vec![
        Box::new(Ours::default()),
        Box::new(threshold(5)),
        Box::new(threshold(10)),
        Box::new(MannWhitney::default()),
        Box::new(RepeatedZ::default()),
    ]
}

/// What one rule said of all runs of a scenario.
#[derive(Default)]
struct Score {
    /// Seconds until it had enough, of each run in which it had.
    seconds: Vec<u32>,
    /// Bad answers of the canary until then.
    hurt: Vec<u64>,
}

/// Prints the table.
pub(crate) fn run() {
    println!(
        "{RUNS} releases of an hour each; 5 % of the traffic on {CANARIES} of {INSTANCES} instances"
    );
    println!("taken back (median time; requests hurt until then)\n");
    let mut head = format!("{:<32}", "");
    for rule in RULES {
        let _infallible = write!(head, "{rule:>24}");
    }
    println!("{head}");
    for (seed, scenario) in (1..).zip(scenarios()) {
        let mut line = format!("{:<32}", scenario.name);
        for score in simulate(&scenario, seed) {
            let _infallible = write!(line, "{:>24}", score.to_string());
        }
        println!("{line}");
    }
}

fn simulate(scenario: &Scenario, seed: u64) -> Vec<Score> {
    let mut scores: Vec<Score> = RULES.iter().map(|_| Score::default()).collect();
    for run in 0..RUNS {
        let mut rng = Rng::with_seed(seed << 32 | u64::from(run));
        release(scenario, &mut rng, &mut scores);
    }
    scores
}

/// The last window of an instance, and the one that is filled.
#[derive(Default)]
struct Windows {
    last: Tally,
    filled: Tally,
    seconds: u32,
}

impl Windows {
    /// Counts a batch. Returns what was counted lately.
    fn count(&mut self, tally: Tally) -> Tally {
        if self.seconds >= WINDOW && self.filled.requests >= WINDOW_REQUESTS {
            *self = Self { last: self.filled, ..Self::default() };
        }
        self.filled = self.filled.plus(tally);
        self.seconds += BATCH;
        self.last.plus(self.filled)
    }
}

/// One release, watched by all rules.
fn release(scenario: &Scenario, rng: &mut Rng, scores: &mut [Score]) {
    let factors: Vec<f64> = (0..INSTANCES).map(|_| (scenario.spread * normal(rng)).exp()).collect();
    let requests = scenario.rate * f64::from(BATCH) / number(INSTANCES as u64);
    let mut open: Vec<Option<Box<dyn Rule>>> = rules().into_iter().map(Some).collect();
    let mut windows: Vec<Windows> = factors.iter().map(|_| Windows::default()).collect();
    let mut hurt = 0;
    for moment in 1..=BATCHES {
        let minute = (moment - 1) / PER_MINUTE;
        let burst = scenario.burst.filter(|_| (20..26).contains(&minute)).unwrap_or(0.0);
        let tallies: Vec<Tally> = factors
            .iter()
            .enumerate()
            .map(|(i, factor)| {
                let worse = i < CANARIES && minute >= scenario.from_minute;
                let rate = scenario.base * factor * if worse { scenario.worse } else { 1.0 };
                let requests = poisson(rng, requests);
                Tally { requests, bad: binomial(rng, requests, (rate + burst).min(1.0)) }
            })
            .collect();
        let sum = |tallies: &[Tally]| tallies.iter().fold(Tally::default(), |a, b| a.plus(*b));
        let (canary, stable) = tallies.split_at(CANARIES);
        let batch = Batch { canary: sum(canary), stable: sum(stable) };
        hurt += batch.canary.bad;
        let lately: Vec<Tally> =
            windows.iter_mut().zip(&tallies).map(|(it, tally)| it.count(*tally)).collect();
        let (canaries, stable) = lately.split_at(CANARIES);
        let stable = sum(stable);
        let shown = Moment { number: moment, batch, canaries, stable };
        for (rule, score) in open.iter_mut().zip(scores.iter_mut()) {
            if rule.as_mut().is_some_and(|rule| rule.look(&shown)) {
                *rule = None;
                score.seconds.push(moment * BATCH);
                score.hurt.push(hurt);
            }
        }
        if open.iter().all(Option::is_none) {
            return;
        }
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = number(self.seconds.len() as u64) * 100.0 / f64::from(RUNS);
        let (mut seconds, mut hurt) = (self.seconds.clone(), self.hurt.clone());
        seconds.sort_unstable();
        hurt.sort_unstable();
        let middle = self.seconds.len() / 2;
        match (seconds.get(middle), hurt.get(middle)) {
            (Some(seconds), Some(hurt)) => {
                let minutes = f64::from(*seconds) / 60.0;
                write!(f, "{percent:.1} % ({minutes:.1} m; {hurt})")
            }
            _ => write!(f, "{percent:.0} %"),
        }
    }
}

/// A normal variate (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A Poisson variate: by its definition where it is small, else by the normal one near it.
fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    if mean > 50.0 {
        return whole(mean + mean.sqrt() * normal(rng));
    }
    let (bound, mut product, mut count) = ((-mean).exp(), rng.f64(), 0);
    while product > bound {
        product *= rng.f64();
        count += 1;
    }
    count
}

/// A binomial variate, likewise.
fn binomial(rng: &mut Rng, trials: u64, p: f64) -> u64 {
    let mean = number(trials) * p;
    if p < 0.05 && mean < 50.0 {
        return poisson(rng, mean).min(trials);
    }
    if trials < 1_000 {
        return (0..trials).filter(|_| rng.f64() < p).count() as u64;
    }
    whole(mean + (mean * (1.0 - p)).sqrt() * normal(rng)).min(trials)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and below zero is zero"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn number(count: u64) -> f64 {
    count as f64
}
