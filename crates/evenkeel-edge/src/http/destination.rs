//! Where a request goes. What it says decides that once; by which service and instances it is
//! answered is looked up in whichever table is served when it is asked.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::model::{HashKey, RevisionNumber, RoutePolicy, Sticky, cookie, traffic};
use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue, Request};
use tokio::time::Instant;

use super::answer::Cause;
use super::headers;
use super::worker::Place;
use crate::pick::Wish;
use crate::route::{Asked, Target};
use crate::table::{Service, Table};

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

/// Finds the route of a request from outside.
pub(crate) fn route<'t, B>(
    table: &'t Table,
    request: &Request<B>,
) -> Result<&'t Arc<Target>, Cause> {
    let host = headers::host_name(request.headers().get(HOST));
    // `OPTIONS *` asks the server as a whole, which is whoever answers for its root.
    let path = if request.uri().path() == "*" { "/" } else { request.uri().path() };
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let asked = Asked { host: &host, path, method: request.method().as_str(), header: &header };
    match table.routes.find(&asked) {
        Some(target) => Ok(target),
        None if table.is_empty() => Err(Cause::NoTable),
        None => Err(Cause::NoRoute),
    }
}

impl Destination {
    /// To the service of a listener.
    pub(crate) fn listener<B>(
        table: &Table,
        place: &Rc<Place>,
        request: &Request<B>,
        client: &HeaderValue,
    ) -> Self {
        let service = table.by_listener(&place.name).map(|(service, _)| service);
        let traits = service.map(|it| Traits::of(it, request, client, false)).unwrap_or_default();
        Self { way: Way::Listener(Rc::clone(place)), traits, deadline: None }
    }

    /// To the service of a route.
    pub(crate) fn target<B>(
        target: &Arc<Target>,
        request: &Request<B>,
        client: &HeaderValue,
    ) -> Self {
        let service = target.service.as_ref();
        let traits = service.map(|it| Traits::of(it, request, client, true)).unwrap_or_default();
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
    fn of<B>(service: &Service, request: &Request<B>, client: &HeaderValue, outside: bool) -> Self {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let mut it = Self::default();
        if let Some((matches, _)) = &service.testers {
            it.tester = matches.accept(request.method().as_str(), &header);
        }
        if let evenkeel_kernel::model::Balance::Hash(key) = &service.traffic.balance {
            let known = known_by(key, request, client);
            it.key = known.map(|text| traffic::hash(text.as_bytes()));
        }
        match &service.sticky {
            Some(Sticky::By(key)) => {
                it.place = known_by(key, request, client).map(|text| place(service, text));
            }
            Some(Sticky::Own) => {
                let jar = request.headers().get(COOKIE).and_then(|it| it.to_str().ok());
                match cookie(jar.unwrap_or_default(), COOKIE_NAME) {
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

fn known_by<'r, B>(
    key: &HashKey,
    request: &'r Request<B>,
    client: &'r HeaderValue,
) -> Option<&'r str> {
    let header = |name: &HeaderName| request.headers().get(name)?.to_str().ok();
    match key {
        HashKey::Client => client.to_str().ok(),
        HashKey::Path => Some(request.uri().path()),
        HashKey::Header(name) => request.headers().get(name.as_str())?.to_str().ok(),
        HashKey::Cookie(name) => cookie(header(&COOKIE)?, name),
    }
}
