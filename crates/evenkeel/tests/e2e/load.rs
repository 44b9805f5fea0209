//! Steady load: each stream of requests has its own pace, which no slow answer changes. Every
//! answer is checked, every failure is kept with its time and cause.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{Answer, Client, Failed, Stage};
use crate::machine::until;

/// What one stream of requests does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// GET on one connection.
    KeepAlive,
    /// GET, each on a connection of its own.
    Fresh,
    /// POST with a body that comes back.
    Post,
    /// PUT with a small body that comes back: it may be repeated.
    Put,
    /// An answer that takes two seconds.
    Stream,
    /// WebSockets that live for two seconds.
    WebSocket,
}

/// What a server that only serves files can be asked for.
pub(crate) const FILES: &[Kind] = &[Kind::KeepAlive, Kind::KeepAlive, Kind::Fresh];
/// Everything.
pub(crate) const ALL: &[Kind] = &[
    Kind::KeepAlive,
    Kind::KeepAlive,
    Kind::Fresh,
    Kind::Post,
    Kind::Put,
    Kind::Stream,
    Kind::Stream,
    Kind::WebSocket,
    Kind::WebSocket,
];
/// What survives that an instance is killed in the middle of it: what may be repeated.
pub(crate) const REPEATABLE: &[Kind] = &[Kind::KeepAlive, Kind::KeepAlive, Kind::Fresh, Kind::Put];

/// Ticks of a stream, and messages of a WebSocket.
const TICKS: usize = 20;
/// Time between two of them.
const TICK: Duration = Duration::from_millis(100);
/// Largest body of a POST.
const BODY_MAX: usize = 100_000;

/// A request that went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) cause: String,
    /// Milliseconds since the load began.
    at_ms: u128,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.ended.duration_since(self.began).as_millis();
        write!(f, "{} ms, after {took} ms, {:?}: {}", self.at_ms, self.kind, self.cause)
    }
}

/// What came of the load so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) failures: Vec<Failure>,
    /// Good answers by kind.
    pub(crate) good: BTreeMap<Kind, u64>,
    /// Answers by who gave them, with the time of the last.
    pub(crate) by: BTreeMap<String, (u64, Instant)>,
    /// The longest time from when a request was due until it was answered, of GET, PUT and POST;
    /// which it was, and when.
    slowest: Option<(Duration, Kind, u128)>,
}

#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts one stream of requests for each kind that is named.
    pub(crate) fn start(addr: SocketAddr, kinds: &[Kind]) -> Self {
        Self::on(addr, "/page", kinds)
    }

    /// The same with GETs of another path.
    pub(crate) fn on(addr: SocketAddr, path: &'static str, kinds: &[Kind]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let began = Instant::now();
        let thread = |kind: Kind| {
            let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
            let client = Client::new(addr);
            thread::spawn(move || Source { kind, path, client, began, stop, report }.run())
        };
        let threads = kinds.iter().map(|kind| thread(*kind)).collect();
        Self { stop, report, threads }
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.report.lock().unwrap())
    }

    /// Waits until this version has answered so many times.
    #[track_caller]
    pub(crate) fn until_answered(&self, by: &str, times: u64) {
        until(&format!("{by} answers {times} times"), || {
            self.look(|it| it.by.get(by).is_some_and(|(count, _)| *count >= times).then_some(()))
        });
    }

    /// Waits for so many more good answers.
    #[track_caller]
    pub(crate) fn until_more(&self, count: u64) {
        let total = |it: &Report| it.good.values().sum::<u64>();
        let goal = self.look(total) + count;
        until("requests go on", || (self.look(total) >= goal).then_some(()));
    }

    /// Ends the load; what is under way is waited for.
    pub(crate) fn stop(mut self) -> Report {
        self.end();
        std::mem::take(&mut *self.report.lock().unwrap())
    }

    /// Ends the load, which no request may have failed.
    #[track_caller]
    pub(crate) fn stop_unharmed(self) -> Report {
        let report = self.stop();
        report.assert_unharmed();
        report
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("the load: {}", self.report.lock().unwrap());
        }
    }
}

impl Report {
    #[track_caller]
    pub(crate) fn assert_unharmed(&self) {
        assert!(self.failures.is_empty(), "requests failed: {self}");
        assert!(self.good.values().sum::<u64>() > 0, "there was no load");
    }

    /// How often a version answered.
    pub(crate) fn answers(&self, by: &str) -> u64 {
        self.by.get(by).map_or(0, |(count, _)| *count)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: Vec<_> = self.by.iter().map(|(by, (count, _))| format!("{by} {count}")).collect();
        writeln!(f, "{:?} by {}; slowest {:?}", self.good, by.join(", "), self.slowest)?;
        self.failures.iter().take(50).try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}

/// One stream of requests.
struct Source {
    kind: Kind,
    path: &'static str,
    client: Client,
    began: Instant,
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
}

impl Source {
    fn run(mut self) {
        let pace = match self.kind {
            Kind::KeepAlive => Duration::from_millis(20),
            Kind::Fresh | Kind::Put => Duration::from_millis(40),
            Kind::Post => Duration::from_millis(60),
            Kind::Stream | Kind::WebSocket => Duration::ZERO,
        };
        let mut due = Instant::now();
        let mut count = 0;
        while !self.stop.load(Ordering::Relaxed) {
            count += 1;
            let began = Instant::now();
            let result = self.once(count);
            self.note(began, due, result);
            due = if pace.is_zero() { Instant::now() } else { due + pace };
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// One request; who answered it.
    fn once(&mut self, count: usize) -> Result<String, Failed> {
        match self.kind {
            Kind::KeepAlive => page(&self.client.get(self.path)?),
            Kind::Fresh => {
                self.client.close();
                page(&self.client.get(self.path)?)
            }
            Kind::Post => self.echo("POST", &pattern(count, count * 7_919 % BODY_MAX)),
            Kind::Put => self.echo("PUT", &pattern(count, 100)),
            Kind::Stream => self.stream(),
            Kind::WebSocket => {
                let result = self.web_socket();
                self.client.close();
                result
            }
        }
    }

    fn note(&self, began: Instant, due: Instant, result: Result<String, Failed>) {
        let ended = Instant::now();
        let mut report = self.report.lock().unwrap();
        match result {
            Ok(by) => {
                *report.good.entry(self.kind).or_default() += 1;
                let entry = report.by.entry(by).or_insert((0, ended));
                *entry = (entry.0 + 1, ended);
                if !matches!(self.kind, Kind::Stream | Kind::WebSocket) {
                    let at_ms = ended.duration_since(self.began).as_millis();
                    let this = Some((ended.duration_since(due), self.kind, at_ms));
                    report.slowest = report.slowest.max(this);
                }
            }
            Err((stage, cause)) => {
                let at_ms = ended.duration_since(self.began).as_millis();
                let kind = self.kind;
                report.failures.push(Failure { began, ended, kind, stage, cause, at_ms });
            }
        }
    }

    fn echo(&mut self, method: &str, body: &[u8]) -> Result<String, Failed> {
        let answer = self.client.send(method, "/echo", body)?;
        let by = version(&answer)?;
        match answer.body == body {
            true => Ok(by),
            false => Err((Stage::Answer, format!("{} bytes came back wrong", body.len()))),
        }
    }

    fn stream(&mut self) -> Result<String, Failed> {
        let path = format!("/stream?count={TICKS}&every={}", TICK.as_millis());
        self.client.ask("GET", &path, "", &[])?;
        let result = self.ticks();
        if result.is_err() {
            self.client.close();
        }
        result
    }

    fn ticks(&mut self) -> Result<String, Failed> {
        let head = self.client.head()?;
        let by = version(&head)?;
        let mut text = String::new();
        while let Some(chunk) = self.client.chunk()? {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        let expected: String = (0..TICKS).map(|tick| format!("tick {tick} of {by}\n")).collect();
        if head.header("connection") == Some("close") {
            self.client.close();
        }
        match text == expected {
            true => Ok(by),
            false => Err((Stage::Answer, format!("the stream was {text:?}"))),
        }
    }

    fn web_socket(&mut self) -> Result<String, Failed> {
        let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.client.ask("GET", "/socket", upgrade, &[])?;
        let head = self.client.head()?;
        if head.status != 101 {
            return Err((Stage::Answer, format!("{} instead of 101", head.status)));
        }
        // The key and its answer are the example of RFC 6455.
        if head.header("sec-websocket-accept") != Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            return Err((Stage::Answer, "the key was not accepted".to_owned()));
        }
        let by = head.header("x-version").unwrap_or_default().to_owned();
        for tick in 0..TICKS {
            self.message(1, format!("message {tick}").as_bytes())?;
            thread::sleep(TICK);
        }
        self.message(8, &1000_u16.to_be_bytes())?;
        Ok(by)
    }

    /// Sends one message and gets it back.
    fn message(&mut self, opcode: u8, text: &[u8]) -> Result<(), Failed> {
        use std::io::Write as _;
        let length = u8::try_from(text.len()).expect("messages are short");
        let mask = [17, 34, 51, 68];
        let mut frame = vec![0x80 | opcode, 0x80 | length];
        frame.extend(mask);
        frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let sent = self.client.open_stream()?.get_mut().write_all(&frame);
        sent.map_err(|error| (Stage::UnderWay, format!("send: {error}")))?;
        let head = self.client.bytes(2)?;
        let back = self.client.bytes(usize::from(head[1] & 0x7f))?;
        match head[0] & 0x0f == opcode && back == text {
            true => Ok(()),
            false => Err((Stage::Answer, format!("message {head:?} {back:?} came back"))),
        }
    }
}

/// The page that every version serves in its own way, whole.
pub(crate) fn page_of(version: &str) -> String {
    format!("version={version}\n{}\nend\n", ".".repeat(2000))
}

/// Who made this page, if it is whole.
fn page(answer: &Answer) -> Result<String, Failed> {
    let text = answer.text();
    let version = text.strip_prefix("version=").and_then(|rest| rest.lines().next());
    match version.filter(|version| answer.status == 200 && text == page_of(version)) {
        Some(version) => Ok(version.to_owned()),
        None => Err(wrong(answer)),
    }
}

fn version(answer: &Answer) -> Result<String, Failed> {
    match answer.header("x-version").filter(|_| answer.status == 200) {
        Some(version) => Ok(version.to_owned()),
        None => Err(wrong(answer)),
    }
}

fn wrong(answer: &Answer) -> Failed {
    let start: String = answer.text().chars().take(120).collect();
    (Stage::Answer, format!("{}: {start:?}", answer.status))
}

/// Bytes that are different each time.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    let byte = |i: usize| u8::try_from((seed * 31 + i * 7) % 251).expect("below 251");
    (0..length).map(byte).collect()
}
