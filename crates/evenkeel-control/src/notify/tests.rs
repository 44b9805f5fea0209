//! Desks at work, on rows that are made up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use evenkeel_journal::{Row, Seq};
use evenkeel_kernel::model::{
    Address, Channel, Epoch, KeptSecret, ReleaseId, SecretSource, Service, ServiceName, Stack,
};
use evenkeel_kernel::release::{Action, Change, Kind, Ledger, Outcome, Past, Queued};
use evenkeel_kernel::spec::{self, Materials};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::World;

use super::*;
use crate::orders::{self, Inbox};
use crate::snapshot::Snapshot;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The surroundings of desks, with rows that the last release begins with the third of.
struct Rig {
    home: tempfile::TempDir,
    around: Around,
    state: State,
    inbox: Option<Inbox>,
}

impl Rig {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (orders, inbox) = orders::door();
        let state = crate::role::fresh(home.path());
        let around = Around {
            home: home.path().to_owned(),
            holder: Vec::new(),
            latest: Latest::new(snapshot(state.clone())),
            events: Events::load(Vec::new()),
            orders,
            desks: Arc::default(),
        };
        Self { home, around, state, inbox: Some(inbox) }
    }

    fn commit(&self, rows: &[Row]) {
        self.around.events.committed(rows, Seq(self.around.events.head() + rows.len() as u64));
    }

    /// The stack that is in force has this receiver, brought by release 2, or none.
    fn tell(&mut self, receiver: Option<Receiver>) {
        let mut stack = (*self.state.stack).clone();
        stack.notify = receiver.into_iter().map(|it| ("ops".parse().unwrap(), it)).collect();
        self.state.stack = Arc::new(stack);
        let past = Past {
            id: ReleaseId(2),
            kind: Kind::Apply,
            by: "ann".to_owned(),
            started: Timestamp(0),
            ended: Timestamp(0),
            outcome: Outcome::Promoted,
            because: None,
            moved: BTreeMap::new(),
            judged: BTreeMap::new(),
            approvals: Vec::new(),
            ledger: Ledger::default(),
        };
        self.state.past = vec![Arc::new(past)];
        self.around.latest.publish(snapshot(self.state.clone()));
        // Whoever asks before the next look is told of it already.
        let known = self.around.receivers();
        assert!(
            self.state.stack.notify.keys().all(|it| known.iter().any(|at| at.name == it.as_str()))
        );
        self.around.look();
    }

    fn until<T>(&self, what: &str, look: impl Fn(&[ReceiverView]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let receivers = self.around.receivers();
            if let Some(found) = look(&receivers) {
                return found;
            }
            assert!(Instant::now() < deadline, "it never came true: {what}; {receivers:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn snapshot(state: State) -> Snapshot {
    let (state, world) = (Arc::new(state), Arc::new(World::unknown()));
    Snapshot { state, world, epoch: Epoch(1), now: Timestamp(0), wall_ms: wall_ms() }
}

fn row(release: u64, kind: &str, at: u64) -> Row {
    let body = serde_json::json!({ "text": kind }).to_string();
    let release = Some(ReleaseId(release));
    Row { release, at, actor: "ann".to_owned(), kind: kind.to_owned(), body }
}

/// A room that takes what it is told, once it is opened.
fn room() -> (Receiver, impl FnOnce() -> Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let to = Channel::Slack(Address::Url(url));
    let receiver = Receiver { to, secret: None, events: vec!["release.*".to_owned()] };
    let open = move || {
        let (said, heard) = mpsc::channel();
        // It waits in `accept` until the test's process ends.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                drop(said.send(take(stream)));
            }
        });
        Heard(heard)
    };
    (receiver, open)
}

/// What a room hears.
struct Heard(mpsc::Receiver<String>);

impl Heard {
    /// The next messages.
    fn next(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.0.recv_timeout(PATIENCE).unwrap()).collect()
    }
}

/// Takes one message, and says so.
fn take(stream: TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap() > 2 {
        let lower = line.to_lowercase();
        let value = lower.strip_prefix("content-length:");
        length = value.map_or(length, |it| it.trim().parse().unwrap());
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn a_new_receiver_begins_with_the_release_that_brings_it_and_hears_its_end() {
    let mut rig = Rig::new();
    let now = wall_ms();
    let kinds = ["release.started", "release.ended", "release.started", "split.changed"];
    let rows: Vec<Row> = kinds.iter().zip([1, 1, 2, 2]).map(|(it, id)| row(id, it, now)).collect();
    rig.commit(&rows);
    let (receiver, open) = room();
    rig.tell(Some(receiver));
    // It has not opened yet when the stack has it no more.
    rig.commit(&[row(2, "release.ended", now)]);
    rig.tell(None);
    let heard = open().next(2);
    let expected = [
        r#"{"text":"new #2: release.started"}"#.to_owned(),
        r#"{"text":"new #2: release.ended"}"#.to_owned(),
    ];
    assert_eq!(heard, expected);
    rig.until("it is forgotten", |all| all.is_empty().then_some(()));
    assert_eq!(Book::names(rig.home.path()), []);
}

#[test]
fn a_new_receiver_hears_the_release_that_brought_it_although_the_next_has_begun() {
    let mut rig = Rig::new();
    let kinds = ["release.started", "release.ended", "release.started"];
    let row = |(kind, id): (&&str, u64)| row(id, kind, wall_ms());
    let rows: Vec<Row> = kinds.iter().zip([2, 2, 3]).map(row).collect();
    rig.commit(&rows);
    let (receiver, open) = room();
    // Nobody has looked before release 3, which brings a second one.
    let mut wanted = (*rig.state.stack).clone();
    wanted.notify = ["ops", "more"].map(|it| (it.parse().unwrap(), receiver.clone())).into();
    rig.tell(Some(receiver));
    let (kind, hotfix, expect_destroy) = (Kind::Apply, None, None);
    let change = Change { wanted, kind, force: false, hotfix, expect_destroy };
    rig.state.last_release = ReleaseId(2);
    let change = Action::Change(Box::new(change));
    let accepted = rig.state.act(change, "ann", &World::unknown(), Timestamp(0)).unwrap();
    let state = accepted.decision.unwrap().state;
    drop(open);
    let begins = |name: &str| rig.around.beginning(&name.parse().unwrap(), &state);
    assert_eq!((begins("ops"), begins("more")), (0, 2));
}

#[test]
fn yesterdays_events_are_given_up_and_counted() {
    let mut rig = Rig::new();
    let now = wall_ms();
    let old = now - GIVEN_UP_MS - 1;
    let rows = [row(2, "release.started", old), row(2, "release.held", old)];
    rig.commit(&[&rows[..], &[row(2, "release.ended", now)]].concat());
    let (receiver, open) = room();
    rig.tell(Some(receiver));
    assert_eq!(open().next(1), [r#"{"text":"new #2: release.ended"}"#]);
    let view = rig.until("it is taken", |all| all[0].taken_ms.map(|_| all[0].clone()));
    assert_eq!((view.given_up, view.behind), (2, 0));
    let written = || Book::load(rig.home.path(), &"ops".parse().unwrap()).unwrap().unwrap();
    let book = rig.until("it is written down", |_| Some(written()).filter(|it| it.after == 3));
    assert_eq!(book.given_up, 2);
}

#[test]
fn who_is_far_behind_reads_the_journal() {
    let mut rig = Rig::new();
    let now = wall_ms();
    let kind = |i: u64| if i.is_multiple_of(1_000) { "release.held" } else { "split.changed" };
    let rows: Vec<Row> = (1..=3_000).map(|i| row(2, kind(i), now)).collect();
    rig.commit(&rows);
    // It was there before, and had taken the first ten.
    Book::beginning(10).save(rig.home.path(), &"ops".parse().unwrap()).unwrap();
    let inbox = rig.inbox.take().unwrap();
    let journal = std::thread::spawn(move || {
        let mut pages = 0;
        while let Some(Order::Tail { after, limit, reply }) = inbox.next(Duration::from_secs(2)) {
            let entry = |i: usize| crate::events::event(Seq(i as u64 + 1), &rows[i]);
            let from = usize::try_from(after).unwrap();
            reply.send((from..(from + limit).min(rows.len())).map(entry).collect()).unwrap();
            pages += 1;
        }
        pages
    });
    let (receiver, open) = room();
    rig.tell(Some(receiver));
    open().next(3);
    assert_eq!(journal.join().unwrap(), 10, "the rows that are not in memory, a hundred at a time");
}

#[test]
fn a_receiver_that_fails_for_long_is_mentioned() {
    let mut view = ReceiverView {
        name: "ops".to_owned(),
        kind: "webhook".to_owned(),
        to: String::new(),
        signed: false,
        events: Vec::new(),
        behind: 3,
        taken_ms: None,
        failing_since_ms: Some(1_000),
        tries: 9,
        last_error: Some("it answers 500".to_owned()),
        gives_up_ms: Some(90_000_000),
        given_up: 0,
    };
    assert!(wait(&view, 60_999).is_none());
    let told = wait(&view, 1_000 + 754_321).unwrap();
    assert_eq!(told.what, "receiver ops has taken nothing for 12m34s; 3 events wait for it");
    assert_eq!(told.until_ms, Some(90_000_000));
    assert_eq!(told.last_error.as_deref(), Some("it answers 500"));
    view.failing_since_ms = None;
    assert!(wait(&view, u64::MAX).is_none());
}

/// A service whose gate asks a webhook with this key.
fn gated(key: &str) -> BTreeMap<ServiceName, Service> {
    let text = "stack = \"shop\"\nservice.web.run = \"web\"\n[service.web.rollout]\n\
                strategy = \"canary\"\nsteps = [{ weight = \"5%\", gate = { \
                webhook = \"http://localhost/\", secret = \"env:KEY\" } }]";
    let secrets = [("env:KEY".to_owned(), Ok(Digest::of(key.as_bytes())))].into();
    let bound = spec::draft(text, "/").bind(&Materials { secrets, ..Materials::default() });
    bound.stack.unwrap().services
}

#[test]
fn the_secrets_of_receivers_and_gates_are_kept_also_those_of_a_change_that_waits() {
    let stack = |word: &str| {
        let kept = |word: &str| {
            let from = SecretSource::Env("X".to_owned());
            KeptSecret { from, digest: Some(Digest::of(word.as_bytes())) }
        };
        let to = Channel::Webhook(Address::Secret(kept(word)));
        let secret = Some(kept(&format!("{word} key")));
        let receiver = Receiver { to, secret, events: Vec::new() };
        let mut stack = Stack::empty("shop".parse().unwrap());
        stack.notify.insert("ops".parse().unwrap(), receiver);
        stack.services = gated(&format!("{word} gate"));
        Arc::new(stack)
    };
    let mut state = crate::role::fresh(Path::new("/"));
    state.stack = stack("now");
    let (id, kind, by) = (ReleaseId(3), Kind::Apply, "ann".to_owned());
    state.queued = Some(Queued { id, kind, by, wanted: stack("next"), hotfix: None, force: false });
    let words = ["now", "now key", "now gate", "next", "next key", "next gate"];
    assert_eq!(secrets(&state), words.map(|word| Digest::of(word.as_bytes())).into());
}
