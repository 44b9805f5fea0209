//! Who goes by what is told: which services somebody asks for, and what clients of xDS have taken.
//!
//! An instance must not be stopped while clients go to it who do not know yet that it is leaving.
//! How long that is, is decided elsewhere; here is seen whether there are such clients at all. All
//! of it is of one thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::model::{Generation, ServiceName};
use evenkeel_kernel::world;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::catalog::ByName;
use crate::hub::{Hub, Interest};

/// Between two looks at who asks; that is soon enough for a release, which gives clients seconds.
const LOOK: Duration = Duration::from_millis(200);
/// So long after the last question somebody still counts as a client. Who asks more seldom than
/// this goes by addresses that nobody answers for.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What is said of each service that has clients; nothing before the first look.
pub type Report = Option<Arc<BTreeMap<ServiceName, world::Readers>>>;

/// Who asks for one service, or for all.
#[derive(Debug)]
pub(crate) struct Mark {
    /// Somebody did since the last look.
    asked: Cell<bool>,
    /// So many wait for news of it.
    watching: Cell<usize>,
    /// When somebody was last seen to, if that was lately.
    last: Cell<Option<Instant>>,
    /// Wakes whoever looks.
    news: Rc<Notify>,
}

impl Mark {
    fn new(last: Option<Instant>, news: &Rc<Notify>) -> Rc<Self> {
        let (asked, watching) = (Cell::new(false), Cell::new(0));
        Rc::new(Self { asked, watching, last: Cell::new(last), news: Rc::clone(news) })
    }

    /// Somebody asks.
    pub(crate) fn ask(&self) {
        if !self.asked.replace(true) && self.last.get().is_none() {
            self.news.notify_one();
        }
    }

    /// Whether somebody did lately.
    fn is_read(&self, now: Instant) -> bool {
        if self.asked.take() || self.watching.get() > 0 {
            self.last.set(Some(now));
        }
        let lately = |last: &Instant| now.duration_since(*last) < REMEMBERED;
        self.last.set(self.last.get().filter(lately));
        self.last.get().is_some()
    }
}

/// Somebody who watches, as long as this lives.
#[derive(Debug)]
pub(crate) struct Watching(Option<Rc<Mark>>);

impl Watching {
    fn new(mark: Option<Rc<Mark>>) -> Self {
        if let Some(mark) = &mark {
            mark.watching.set(mark.watching.get() + 1);
            mark.ask();
        }
        Self(mark)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(mark) = &self.0 {
            mark.watching.set(mark.watching.get().saturating_sub(1));
            mark.ask();
        }
    }
}

/// A stream of xDS.
#[derive(Debug, Default)]
struct Followed {
    /// The services it has asked for; `None`: all.
    services: Option<BTreeSet<String>>,
    taken: Generation,
}

/// Everybody who reads.
#[derive(Debug)]
pub(crate) struct Readers {
    marks: RefCell<ByName<Rc<Mark>>>,
    /// Who asks for everything.
    all: Rc<Mark>,
    streams: RefCell<BTreeMap<u64, Followed>>,
    next_stream: Cell<u64>,
    news: Rc<Notify>,
}

impl Readers {
    /// Nobody is known yet, so everybody may have been told of everything, by an earlier process.
    pub(crate) fn new() -> Rc<Self> {
        let news = Rc::new(Notify::new());
        Rc::new(Self {
            marks: RefCell::default(),
            all: Mark::new(Some(Instant::now()), &news),
            streams: RefCell::default(),
            next_stream: Cell::new(0),
            news,
        })
    }

    /// The mark of a service. One that there is not is soon forgotten.
    pub(crate) fn of(&self, name: &str) -> Rc<Mark> {
        let mut marks = self.marks.borrow_mut();
        if let Some(mark) = marks.get(name) {
            return Rc::clone(mark);
        }
        Rc::clone(marks.entry(name.into()).or_insert(Mark::new(None, &self.news)))
    }

    /// Notes that somebody asks for this, who goes on asking as long as what is returned lives.
    pub(crate) fn watch(&self, interest: Interest<'_>) -> Watching {
        Watching::new(match interest {
            Interest::Any => Some(Rc::clone(&self.all)),
            Interest::Service(name) => Some(self.of(name)),
            // Nobody learns from this where an instance is.
            Interest::Names | Interest::Nothing => None,
        })
    }

    /// Begins a stream of xDS, which knows nothing older than this.
    pub(crate) fn follow(self: &Rc<Self>, taken: Generation) -> Following {
        let id = self.next_stream.get();
        self.next_stream.set(id + 1);
        self.streams.borrow_mut().insert(id, Followed { services: Some(BTreeSet::new()), taken });
        Following { readers: Rc::clone(self), id }
    }

    /// What is to be said now.
    fn report(&self, hub: &Hub, now: Instant) -> BTreeMap<ServiceName, world::Readers> {
        let catalog = hub.now();
        let waited_for = |mark: &Rc<Mark>| Rc::strong_count(mark) > 1;
        let mut marks = self.marks.borrow_mut();
        marks.retain(|name, mark| catalog.service(name).is_some() || waited_for(mark));
        let all = self.all.is_read(now);
        // What those have taken who ask for all, and who ask for one.
        let (mut of_all, mut of_one) = (None, BTreeMap::<&str, Generation>::new());
        let streams = self.streams.borrow();
        for it in streams.values() {
            match &it.services {
                None => of_all = of_all.into_iter().chain([it.taken]).min(),
                Some(services) => {
                    for name in services {
                        let least = of_one.entry(name).or_insert(it.taken);
                        *least = it.taken.min(*least);
                    }
                }
            }
        }
        let reader = |name: &ServiceName| {
            let read = marks.get(name.as_str()).is_some_and(|mark| mark.is_read(now));
            let taken = of_all.into_iter().chain(of_one.get(name.as_str()).copied()).min();
            (all || read || taken.is_some()).then_some((name.clone(), world::Readers { taken }))
        };
        catalog.directory.services.keys().filter_map(reader).collect()
    }

    /// Says it again and again, for ever.
    pub(crate) async fn publish(self: Rc<Self>, hub: Rc<Hub>, report: watch::Sender<Report>) {
        loop {
            // Without an address nobody can ask.
            if hub.now().settings().addresses().next().is_some() {
                let now = self.report(&hub, Instant::now());
                report.send_if_modified(|before| {
                    let new = before.as_ref().is_none_or(|before| **before != now);
                    if new {
                        *before = Some(Arc::new(now));
                    }
                    new
                });
            }
            // Who asks for the first time is known at once.
            let _news = timeout(LOOK, self.news.notified()).await;
        }
    }
}

/// A stream of xDS as it goes on. When it ends, its client still goes by what it was told.
#[derive(Debug)]
pub(crate) struct Following {
    readers: Rc<Readers>,
    id: u64,
}

impl Following {
    /// It asks for these services, or for all, and has taken all that was told until then.
    pub(crate) fn is(&self, services: Option<BTreeSet<String>>, taken: Generation) {
        if let Some(it) = self.readers.streams.borrow_mut().get_mut(&self.id) {
            let new = it.services != services;
            *it = Followed { services, taken };
            if new {
                self.readers.news.notify_one();
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        match self.readers.streams.borrow_mut().remove(&self.id).and_then(|it| it.services) {
            Some(services) => services.iter().for_each(|name| self.readers.of(name).ask()),
            None => self.readers.all.ask(),
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::{Discovery, Epoch};
    use evenkeel_kernel::routing::directory::{Directory, Seen};
    use evenkeel_kernel::routing::{self, RoutingTable};
    use evenkeel_kernel::world::Fence;

    use super::*;
    use crate::dns::Answers;

    /// A hub that knows `web` and `api`, by this decision.
    fn hub(generation: u64) -> Rc<Hub> {
        let service = |name: &str| (name.parse().unwrap(), routing::Service::default());
        let table = RoutingTable {
            fence: Fence { epoch: Epoch(1), generation: Generation(generation) },
            stack: Some("shop".parse().unwrap()),
            discovery: Discovery {
                dns: vec!["127.0.0.1:53".parse().unwrap()],
                ..Discovery::default()
            },
            services: [service("web"), service("api")].into(),
            ..RoutingTable::default()
        };
        let hub = Rc::<Hub>::default();
        hub.follow(Arc::new(Directory::default().next(&table, &|_| Seen::NOTHING)));
        hub
    }

    /// What is said so many seconds after the start.
    struct Watch {
        hub: Rc<Hub>,
        readers: Rc<Readers>,
        began: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self { hub: hub(7), readers: Readers::new(), began: Instant::now() }
        }

        fn at(&self, seconds: u64) -> String {
            let now = self.began + Duration::from_secs(seconds);
            let said = self.readers.report(&self.hub, now).into_iter().map(|(name, it)| {
                let taken = it.taken.map_or(String::new(), |it| format!("@{}", it.0));
                format!("{name}{taken}")
            });
            said.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn at_first_everybody_may_have_been_told_of_everything() {
        let watch = Watch::new();
        assert_eq!(watch.at(1), "api web");
        assert_eq!(watch.at(62), "");
    }

    #[test]
    fn who_asks_counts_for_a_minute_and_who_waits_for_as_long_as_that() {
        let watch = Watch::new();
        drop(watch.readers.watch(Interest::Service("web")));
        assert_eq!(
            (watch.at(100), watch.at(159), watch.at(161)),
            ("web".into(), "web".into(), String::new())
        );
        let waits = watch.readers.watch(Interest::Service("api"));
        assert_eq!((watch.at(200), watch.at(900)), ("api".into(), "api".into()));
        drop(waits);
        assert_eq!((watch.at(901), watch.at(962)), ("api".into(), String::new()));
        drop(watch.readers.watch(Interest::Names));
        assert_eq!(watch.at(1000), "", "names lead nowhere");
        drop(watch.readers.watch(Interest::Any));
        assert_eq!(watch.at(1001), "api web");
        drop(watch.readers.watch(Interest::Service("nobody")));
        assert_eq!(watch.at(1100), "", "there is no such service");
        assert!(!watch.readers.marks.borrow().contains_key("nobody"));
    }

    #[test]
    fn a_question_to_dns_counts_also_when_its_answer_is_ready() {
        let watch = Watch::new();
        let answers = Answers::new(Rc::clone(&watch.hub), Rc::clone(&watch.readers));
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x04shop\x08internal\0\0\x21\0\x01";
        for at in [100, 200] {
            assert_eq!(watch.at(at), "");
            answers.answer(question, None, &mut Vec::new());
            assert_eq!(watch.at(at), "web");
        }
    }

    #[test]
    fn the_slowest_stream_of_a_service_says_what_has_been_taken() {
        let watch = Watch::new();
        let [one, other] = [5, 6].map(|taken| watch.readers.follow(Generation(taken)));
        one.is(Some(["web".to_owned()].into()), Generation(5));
        other.is(None, Generation(6));
        assert_eq!(watch.at(100), "api@6 web@5");
        one.is(Some(["web".to_owned()].into()), Generation(7));
        assert_eq!(watch.at(101), "api@6 web@6");
        drop(other);
        assert_eq!(watch.at(102), "api web@7", "its client still goes by what it was told");
        drop(one);
        assert_eq!((watch.at(103), watch.at(170)), ("api web".into(), String::new()));
    }
}
