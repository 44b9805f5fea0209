//! Where a request goes. What it says decides that once; by which service and instances it is
//! answered is looked up in whichever table is served when it is asked.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::model::{
    Balance, HashKey, Protocol, RevisionNumber, RoutePolicy, Sticky, cookie, traffic,
};
use http::HeaderValue;
use tokio::time::Instant;

use super::answer::Cause;
use super::verdict::{self, Verdict};
use super::worker::{Kind, Place};
use crate::pick::Wish;
use crate::route::{Asked, Target};
use crate::shared::Shared;
use crate::table::{Pool, Service, Table};

/// The cookie by which the edge knows a person again.
const COOKIE_NAME: &str = "evenkeel";

/// Where a request goes.
pub(crate) struct Destination {
    way: Way,
    traits: Traits,
    /// When its time is up, if that is bounded.
    pub(crate) deadline: Option<Instant>,
}

enum Way {
    /// To the service of an internal listener.
    Listener(Rc<Place>),
    /// To the service of a route.
    Route(Arc<Target>),
}

/// What of a request matters to who answers it.
#[derive(Debug, Default)]
struct Traits {
    /// Where along the split its person stands.
    place: Option<u16>,
    /// It is a tester's.
    tester: bool,
    /// What it is known by, for the ring.
    key: Option<u64>,
    /// The cookie that its person gets.
    cookie: Option<HeaderValue>,
}

/// By whom a request is answered.
pub(crate) struct Routed {
    pub(crate) service: Arc<Service>,
    pub(crate) revision: Option<RevisionNumber>,
    pub(crate) affine: Option<RevisionNumber>,
    pub(crate) place: Option<u16>,
    pub(crate) key: Option<u64>,
}

impl Routed {
    /// What is wanted of the pick.
    pub(crate) fn wish(&self) -> Wish<'static> {
        let Self { revision, affine, place, key, .. } = *self;
        Wish { revision, affine, place, key, ..Wish::default() }
    }
}

/// Finds where a request goes, unless it is answered at the door.
pub(crate) fn find(
    shared: &Shared,
    place: &Rc<Place>,
    asked: &Asked<'_>,
    client: &str,
) -> Result<Destination, Verdict> {
    let table = shared.table.load();
    if place.kind == Kind::Internal {
        return Ok(Destination::listener(&table, place, asked, client));
    }
    // Before anything else that could be said: an issuer's question has no other answer.
    if let Some(answer) = shared.challenges.answer(asked.path()) {
        return Err(verdict::challenge(answer));
    }
    if place.kind == Kind::Plain
        && let Some(verdict) = verdict::to_https(shared, &table, asked)
    {
        return Err(verdict);
    }
    match table.routes.find(asked) {
        Some(target) => Ok(Destination::target(target, asked, client)),
        None if table.is_empty() => Err(Cause::NoTable.into()),
        None => Err(Cause::NoRoute.into()),
    }
}

impl Destination {
    /// To the service of a listener.
    fn listener(table: &Table, place: &Rc<Place>, asked: &Asked<'_>, client: &str) -> Self {
        let service = table.by_listener(&place.name).map(|(service, _)| service);
        let traits = service.map(|it| Traits::of(it, asked, client, false)).unwrap_or_default();
        Self { way: Way::Listener(Rc::clone(place)), traits, deadline: None }
    }

    /// To the service of a route.
    fn target(target: &Arc<Target>, asked: &Asked<'_>, client: &str) -> Self {
        let service = target.service.as_ref();
        let traits = service.map(|it| Traits::of(it, asked, client, true)).unwrap_or_default();
        let timeout = target.source.route.policy.timeout;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self { way: Way::Route(Arc::clone(target)), traits, deadline }
    }

    /// By whom it is answered, by this table.
    pub(crate) fn service(&self, table: &Table) -> Result<Routed, Cause> {
        let found = match &self.way {
            Way::Listener(place) => {
                table.by_listener(&place.name).map(|(service, affine)| (service, None, affine))
            }
            Way::Route(target) => {
                let source = &target.source;
                let now = table.routes.named(&source.name, source.revision);
                let service = now.and_then(|it| it.service.as_ref());
                service.map(|service| (service, source.revision, None))
            }
        };
        let Some((service, revision, affine)) = found else {
            return Err(if table.is_empty() { Cause::NoTable } else { Cause::NoRoute });
        };
        let tester = service.testers.as_ref().filter(|_| self.traits.tester);
        let affine = affine.or(tester.map(|(_, revision)| *revision));
        let Traits { place, key, .. } = self.traits;
        Ok(Routed { service: Arc::clone(service), revision, affine, place, key })
    }

    /// Its route, if it came by one.
    pub(crate) fn route(&self) -> Option<&Arc<Target>> {
        match &self.way {
            Way::Listener(_) => None,
            Way::Route(target) => Some(target),
        }
    }

    /// What its route says of it before anybody is asked.
    pub(crate) fn verdict(&self, asked: &Asked<'_>, client: IpAddr) -> Option<Verdict> {
        match &self.way {
            Way::Listener(_) => None,
            Way::Route(target) => verdict::of(target, asked, client),
        }
    }

    /// Whether it needs a message that can be taken apart, and not only bytes.
    pub(crate) fn needs_a_message(&self, table: &Table) -> bool {
        let other = |pool: &Arc<Pool>| pool.protocol != Protocol::Http;
        let needs = |it: &Service| it.mirror.is_some() || it.pools.iter().any(other);
        let strips = self.policy().is_some_and(|policy| policy.strip);
        strips || self.service(table).is_ok_and(|routed| needs(&routed.service))
    }

    /// What an instance does not see of the path.
    pub(crate) fn strips(&self) -> Option<&str> {
        match &self.way {
            Way::Listener(_) => None,
            Way::Route(target) => {
                let route = &target.source.route;
                route.policy.strip.then_some(route.path.as_str())
            }
        }
    }

    /// What holds on the way.
    pub(crate) fn policy(&self) -> Option<&RoutePolicy> {
        match &self.way {
            Way::Listener(_) => None,
            Way::Route(target) => Some(&target.source.route.policy),
        }
    }

    /// How long one try may take until its answer begins, at most.
    pub(crate) fn try_timeout(&self, preset: Duration) -> Duration {
        let one = self.policy().and_then(|policy| policy.try_timeout).unwrap_or(preset);
        match self.deadline {
            Some(deadline) => one.min(deadline.saturating_duration_since(Instant::now())),
            None => one,
        }
    }

    /// The cookie that its person gets.
    pub(crate) fn cookie(&self) -> Option<&HeaderValue> {
        self.traits.cookie.as_ref()
    }
}

impl Traits {
    fn of(service: &Service, asked: &Asked<'_>, client: &str, outside: bool) -> Self {
        let mut it = Self::default();
        if let Some((matches, _)) = &service.testers {
            it.tester = matches.accept(asked.method, asked.header);
        }
        if let Balance::Hash(key) = &service.traffic.balance {
            it.key = known_by(key, asked, client).map(|text| traffic::hash(text.as_bytes()));
        }
        match &service.sticky {
            Some(Sticky::By(key)) => {
                it.place = known_by(key, asked, client).map(|text| place(service, text));
            }
            Some(Sticky::Own) => {
                match cookie((asked.header)("cookie").unwrap_or_default(), COOKIE_NAME) {
                    Some(known) => it.place = Some(place(service, known)),
                    None if outside => {
                        let fresh = format!("{:016x}", fastrand::u64(..));
                        it.place = Some(place(service, &fresh));
                        let text = format!("{COOKIE_NAME}={fresh}; Path=/; HttpOnly; SameSite=Lax");
                        it.cookie = HeaderValue::from_str(&text).ok();
                    }
                    None => {}
                }
            }
            None => {}
        }
        it
    }
}

/// Different services place the same person differently.
fn place(service: &Service, person: &str) -> u16 {
    traffic::place_of(&format!("{} {person}", service.name))
}

fn known_by<'r>(key: &HashKey, asked: &'r Asked<'_>, client: &'r str) -> Option<&'r str> {
    match key {
        HashKey::Client => Some(client),
        HashKey::Path => Some(asked.path()),
        HashKey::Header(name) => (asked.header)(name),
        HashKey::Cookie(name) => cookie((asked.header)("cookie")?, name),
    }
}
