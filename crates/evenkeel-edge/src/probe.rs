//! Asks every instance how it is, again and again: one task that keeps the times, and a bounded
//! number of questions under way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Probe;
use evenkeel_kernel::world::Health;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::now_ms;
use crate::health_call;
use crate::instance::Instance;
use crate::limits::PROBES_MAX;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::table::Pool;

/// Between two probes of an instance that is starting: half of the time it has taken so far, so
/// that a quick start is noticed quickly. What it adds to a rollout lies between these.
const UNKNOWN_INTERVALS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// The same of one that has just become unwell or cannot be reached: it may be starting again, and
/// requests wait for it.
const AWAY_INTERVAL: Duration = Duration::from_millis(200);
/// For how long after it became unwell; a process that restarts is back by then.
const AWAY_MS: u64 = 5_000;
/// Between two probes of an instance that stays unwell.
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two probes of an instance whose connections fail, however often they do.
const SUSPECT_INTERVAL: Duration = Duration::from_millis(50);
/// The shortest time between two probes, whatever a table says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Bytes of an answer that are looked at: a status line, or a shim's reason.
const ANSWER_BYTES: usize = 256;

/// Bytes of the rest of an answer that are waited for, and for how long.
const BODY_BYTES: u64 = 64 << 10;
const BODY_WAIT: Duration = Duration::from_millis(100);

/// The instances by key, and when each is to be asked next.
#[derive(Default)]
struct Schedule {
    subjects: BTreeMap<u64, Subject>,
    due: BTreeSet<(Instant, u64)>,
}

#[derive(Clone)]
struct Subject {
    pool: Arc<Pool>,
    instance: Arc<Instance>,
    /// When it is due; `None` while it is being asked.
    due: Option<Instant>,
    /// When it was asked last.
    asked: Option<Instant>,
}

/// Probes, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let home: Rc<Path> = Rc::from(shared.home.as_path());
    let mut schedule = Schedule::default();
    let mut asked: JoinSet<(u64, bool)> = JoinSet::new();
    loop {
        while asked.len() < PROBES_MAX
            && let Some((key, subject)) = schedule.next_due(Instant::now())
        {
            asked.spawn_local(ask(key, subject, Arc::clone(&shared), Rc::clone(&home)));
        }
        let next = schedule.first_due().filter(|_| asked.len() < PROBES_MAX);
        tokio::select! {
            () = shared.reprobe.notified() => schedule.follow(&shared),
            suspects = shared.suspects.next() => schedule.hasten(&suspects, Instant::now()),
            Some(Ok((key, well))) = asked.join_next() => {
                if let Some(subject) = schedule.subjects.get(&key) {
                    shared.probed(&subject.pool, &subject.instance, well);
                }
                schedule.plan(key, Instant::now());
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

impl Schedule {
    /// Takes over the instances of the table that is served.
    fn follow(&mut self, shared: &Shared) {
        let table = shared.table.load_full();
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.subjects);
        self.due.clear();
        for pool in table.services.values().flat_map(|service| &service.pools) {
            for instance in &pool.instances {
                let (pool, instance) = (Arc::clone(pool), Arc::clone(instance));
                let key = instance.key;
                let (due, asked) = match before.remove(&key) {
                    // Under way: it is planned when the answer comes.
                    Some(Subject { due: None, asked, .. }) => (None, asked),
                    Some(Subject { due: Some(due), asked, .. }) => {
                        (Some(due.min(now + interval(&pool, &instance))), asked)
                    }
                    None => (Some(now), None),
                };
                self.due.extend(due.map(|due| (due, key)));
                self.subjects.insert(key, Subject { pool, instance, due, asked });
            }
        }
    }

    fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn next_due(&mut self, now: Instant) -> Option<(u64, Subject)> {
        let (due, key) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.remove(&(due, key));
        let subject = self.subjects.get_mut(&key)?;
        subject.due = None;
        subject.asked = Some(now);
        Some((key, subject.clone()))
    }

    /// Puts these before their time.
    fn hasten(&mut self, suspects: &BTreeSet<u64>, now: Instant) {
        for key in suspects {
            // Whoever is being asked is planned when the answer comes.
            let Some(Subject { due: Some(due), asked, .. }) = self.subjects.get_mut(key) else {
                continue;
            };
            let soon = asked.map_or(now, |asked| now.max(asked + SUSPECT_INTERVAL));
            if soon < *due {
                self.due.remove(&(*due, *key));
                self.due.insert((soon, *key));
                *due = soon;
            }
        }
    }

    fn plan(&mut self, key: u64, now: Instant) {
        if let Some(subject) = self.subjects.get_mut(&key) {
            // A tenth of jitter, so that a thousand instances do not stay in step.
            let interval = interval(&subject.pool, &subject.instance);
            let due = now + interval.mul_f64(0.9 + 0.2 * fastrand::f64());
            subject.due = Some(due);
            self.due.insert((due, key));
        }
    }
}

fn interval(pool: &Pool, instance: &Instance) -> Duration {
    let since = now_ms().saturating_sub(instance.since_ms());
    let [shortest, longest] = UNKNOWN_INTERVALS;
    let most = match instance.reported() {
        Health::Unknown => Duration::from_millis(since / 2).clamp(shortest, longest),
        Health::Unhealthy if since < AWAY_MS => AWAY_INTERVAL,
        Health::Unhealthy => UNHEALTHY_INTERVAL,
        Health::Healthy if instance.knocks.is_out_of_reach() => AWAY_INTERVAL,
        Health::Healthy => Duration::MAX,
    };
    pool.health.interval.min(most).max(INTERVAL_MIN)
}

async fn ask(key: u64, subject: Subject, shared: Arc<Shared>, home: Rc<Path>) -> (u64, bool) {
    let Subject { pool, instance, .. } = subject;
    let answer = async {
        match &pool.health.probe {
            Probe::Http { path } => http(&shared, &pool, &instance, path).await,
            Probe::Grpc { service } => call(&shared, &pool, &instance, service).await,
            Probe::Tcp => connect(&instance).await.map(|_stream| true),
            Probe::Exec { .. } | Probe::Notify | Probe::Process => {
                shim(&home.join(layout::shim_socket(&instance.id))).await
            }
        }
    };
    let well = matches!(timeout(pool.health.timeout, answer).await, Ok(Ok(true)));
    (key, well)
}

/// Connects to an instance; that it cannot be done is noted.
async fn connect(instance: &Instance) -> io::Result<TcpStream> {
    let connected = TcpStream::connect(instance.addr).await;
    if connected.is_err() {
        instance.break_off();
    }
    connected
}

/// Whether `GET path` answers 200 to 399.
async fn http(shared: &Shared, pool: &Pool, instance: &Instance, path: &str) -> io::Result<bool> {
    let addr = instance.addr;
    let stream = connect(instance).await?;
    let mut stream = Stream::over(stream, &shared.certificates, pool).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nuser-agent: evenkeel-probe\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let line = first_line(&mut stream).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    let is_http = line.starts_with("HTTP/1.");
    // Who hangs up in the middle of an answer makes some servers complain. What the answer says is
    // known; nothing hangs on the rest of it.
    let (mut body, mut nowhere) = (stream.take(BODY_BYTES), tokio::io::sink());
    let _best_effort = timeout(BODY_WAIT, tokio::io::copy(&mut body, &mut nowhere)).await;
    Ok(is_http && status.is_some_and(|status| (200..400).contains(&status)))
}

/// Whether the instance answers the call for its health that it serves.
async fn call(
    shared: &Shared,
    pool: &Pool,
    instance: &Instance,
    service: &str,
) -> io::Result<bool> {
    let stream = connect(instance).await?;
    let stream = Stream::multiplexed_over(stream, &shared.certificates, pool).await?;
    health_call::is_serving(stream, instance.addr, service).await
}

/// Whether the shim says `yes`.
async fn shim(socket: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"ready\n").await?;
    Ok(first_line(&mut stream).await?.trim_end() == "yes")
}

async fn first_line(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<String> {
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    while answer.len() < ANSWER_BYTES && !answer.contains(&b'\n') {
        let mut rest = (&mut *stream).take(64);
        if rest.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::Weight;

    use super::*;
    use crate::fixtures::{pool, service_table};
    use crate::table::Surroundings;

    /// One healthy instance that is probed every minute, and the schedule of its probes.
    fn one() -> (Schedule, Arc<Pool>, Arc<Instance>) {
        let mut pool = pool(vec!["127.0.0.1:1".parse().unwrap()]);
        pool.health.interval = Duration::from_secs(60);
        let shared = Shared::new(Path::new("/nowhere"), Surroundings::plain(), 1);
        shared.apply(service_table(1, vec![(1, Weight::ALL, pool)]), &|_| false).unwrap();
        let mut schedule = Schedule::default();
        schedule.follow(&shared);
        let Subject { pool, instance, .. } = schedule.subjects.values().next().unwrap().clone();
        instance.probed(true, 1, 3);
        (schedule, pool, instance)
    }

    #[test]
    fn a_suspect_is_asked_at_once_and_not_all_the_time() {
        let (mut schedule, _, instance) = one();
        let (key, start) = (instance.key, Instant::now());
        assert!(schedule.next_due(start).is_some());
        schedule.plan(key, start);
        assert!(schedule.next_due(start + Duration::from_secs(10)).is_none());

        let suspects = [key, key + 1].into();
        let later = start + Duration::from_secs(10);
        schedule.hasten(&suspects, later);
        assert!(schedule.next_due(later).is_some());
        schedule.hasten(&suspects, later);
        assert!(schedule.next_due(later).is_none(), "it is being asked");
        schedule.plan(key, later);
        schedule.hasten(&suspects, later);
        assert!(schedule.next_due(later + SUSPECT_INTERVAL / 2).is_none());
        assert!(schedule.next_due(later + SUSPECT_INTERVAL).is_some());
    }

    #[test]
    fn who_is_away_is_asked_more_often() {
        let (_, pool, instance) = one();
        assert_eq!(interval(&pool, &instance), Duration::from_secs(60));
        instance.failed();
        assert_eq!(interval(&pool, &instance), AWAY_INTERVAL);
        instance.knocks.reached();
        assert_eq!(interval(&pool, &instance), Duration::from_secs(60));
        instance.eject();
        assert_eq!(interval(&pool, &instance), AWAY_INTERVAL);
    }
}
