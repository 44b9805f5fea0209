//! One stream: what somebody subscribed to, what they were told, and what they have taken.
//!
//! It is a state machine without sockets: requests and catalogues in, responses out. New things are
//! told before who uses them, and who used something is told of others before it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::Generation;

use super::proto::Any;
use super::resources::{self, Asker, Type};
use crate::catalog::{Catalog, changed};

/// Names of one kind that somebody may subscribe to; others are not listened to.
const NAMES_MAX: usize = 20_000;
/// For how long routes wait until somebody who asks for everything has what they lead to.
const READY_WAIT: Duration = Duration::from_secs(1);

/// What is told at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Push {
    pub(super) kind: Type,
    pub(super) nonce: String,
    pub(super) version: String,
    /// By name, each with its own version.
    pub(super) resources: Vec<(String, String, Any)>,
    pub(super) removed: Vec<String>,
}

/// A request, in either way of asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) nonce: String,
    /// It was refused.
    pub(super) refused: bool,
    /// All names from now on.
    pub(super) names: Option<Vec<String>>,
    /// Names more and fewer.
    pub(super) more: Vec<String>,
    pub(super) fewer: Vec<String>,
    /// What it has from before, by version.
    pub(super) has: BTreeMap<String, String>,
}

/// What somebody subscribed to of one kind.
#[derive(Debug, Default)]
struct Subscription {
    /// Everything, as long as no name was ever given.
    all: bool,
    names: BTreeSet<String>,
    /// What was told, by name: a digest of it.
    told: BTreeMap<String, u64>,
    /// The nonce of the last that was told; and whether an answer to it is missing.
    nonce: String,
    waits: bool,
    /// The answer was that it cannot be used, so something older is.
    refused: bool,
    begun: bool,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Whether only what has changed is told.
    delta: bool,
    asker: Asker,
    seen: Arc<Catalog>,
    of: BTreeMap<Type, Subscription>,
    last_nonce: u64,
    /// Services that changed since routes were told.
    held_since: Option<Instant>,
    /// The decision up to which everything that was told has been taken.
    taken: Generation,
    pub(super) refusals: u64,
}

fn digest(any: &Any) -> u64 {
    let mut hasher = DefaultHasher::new();
    any.value.hash(&mut hasher);
    hasher.finish()
}

impl Stream {
    pub(super) fn new(delta: bool, asker: Asker, seen: Arc<Catalog>) -> Self {
        let of = BTreeMap::new();
        let taken = seen.directory.generation;
        Self { delta, asker, seen, of, last_nonce: 0, held_since: None, taken, refusals: 0 }
    }

    /// Takes a request in, and gives what is to be told for it.
    pub(super) fn ask(&mut self, kind: Type, asked: Asked, now: Instant) -> Vec<Push> {
        let delta = self.delta;
        let it = self.of.entry(kind).or_default();
        if !asked.nonce.is_empty() {
            if asked.nonce == it.nonce {
                it.waits = false;
                it.refused = asked.refused;
                self.refusals += u64::from(asked.refused);
            } else if !delta {
                // An answer to something older: another is on its way.
                return Vec::new();
            }
        }
        let it = self.of.entry(kind).or_default();
        let first = !std::mem::replace(&mut it.begun, true);
        let mut again = BTreeSet::new();
        if let Some(names) = asked.names {
            if first && names.is_empty() {
                it.all = true;
            } else if !names.is_empty() || !it.all {
                let names: BTreeSet<String> = names.into_iter().take(NAMES_MAX).collect();
                let wild = names.contains("*");
                it.all = wild;
                again = names.difference(&it.names).cloned().collect();
                it.told.retain(|name, _| wild || names.contains(name));
                it.names = names;
            }
        } else {
            if first && asked.more.is_empty() {
                it.all = true;
            }
            for name in asked.more {
                if name == "*" {
                    it.all = true;
                } else if it.names.len() < NAMES_MAX {
                    // Who asks again has forgotten.
                    it.told.remove(&name);
                    again.insert(name.clone());
                    it.names.insert(name);
                }
            }
            for name in asked.fewer {
                if name == "*" {
                    it.all = false;
                }
                it.names.remove(&name);
                it.told.remove(&name);
            }
            for (name, version) in asked.has {
                if let Ok(version) = u64::from_str_radix(&version, 16) {
                    it.told.insert(name, version);
                }
            }
        }
        for name in &again {
            it.told.remove(name);
        }
        let must = first || !again.is_empty();
        let mut pushes = Vec::new();
        if must {
            pushes.extend(self.tell(kind, None, true));
        }
        // What was held back for this answer may go now.
        pushes.extend(self.follow_on(now));
        pushes
    }

    /// The services that it asks for; `None`: all.
    pub(super) fn services(&self) -> Option<BTreeSet<String>> {
        let mut services = BTreeSet::new();
        for (kind, it) in &self.of {
            if it.all {
                return None;
            }
            for name in &it.names {
                services.insert(resources::service_of(&self.seen, *kind, name)?.to_owned());
            }
        }
        Some(services)
    }

    /// The decision up to which everything that was told has been taken, as of now.
    pub(super) fn taken(&mut self) -> Generation {
        let wanted = |it: &&Subscription| it.all || !it.names.is_empty();
        let open = self.of.values().filter(wanted).any(|it| it.waits || it.refused);
        if !open && self.held_since.is_none() {
            self.taken = self.seen.directory.generation;
        }
        self.taken
    }

    /// Whether this is the catalogue that was told last.
    pub(super) fn has_seen(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.seen, catalog)
    }

    /// Takes the catalogue of now in, and gives what is to be told of it.
    pub(super) fn follow(&mut self, catalog: Arc<Catalog>, now: Instant) -> Vec<Push> {
        let before = std::mem::replace(&mut self.seen, catalog);
        let names: BTreeSet<String> = changed(&self.seen, &before).into_iter().collect();
        if names.is_empty() && self.seen.stack() == before.stack() {
            return Vec::new();
        }
        let mut pushes = Vec::new();
        for kind in [Type::Cluster, Type::Endpoints, Type::Listener] {
            pushes.extend(self.tell(kind, Some(&names), false));
        }
        self.held_since.get_or_insert(now);
        pushes.extend(self.follow_on(now));
        pushes
    }

    /// When it wants to be asked again though nothing has happened.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held_since.map(|since| since + READY_WAIT)
    }

    /// Tells of routes once they lead somewhere, and lets go of what they no longer lead to.
    pub(super) fn follow_on(&mut self, now: Instant) -> Vec<Push> {
        let Some(since) = self.held_since else { return Vec::new() };
        let overdue = now.saturating_duration_since(since) >= READY_WAIT;
        if !overdue && !self.is_ready() {
            return Vec::new();
        }
        let mut pushes: Vec<Push> = self.tell(Type::Routes, None, false).into_iter().collect();
        let taken = self.of.get(&Type::Routes).is_none_or(|it| !it.waits);
        if taken || overdue {
            self.held_since = None;
            pushes.extend(self.let_go());
        }
        pushes
    }

    /// Whether whoever asked has taken clusters and endpoints, and has asked for those of every
    /// cluster that routes lead to.
    fn is_ready(&self) -> bool {
        let waits = |kind| self.of.get(&kind).is_some_and(|it| it.waits);
        if waits(Type::Cluster) || waits(Type::Endpoints) {
            return false;
        }
        let (Some(clusters), Some(endpoints)) =
            (self.of.get(&Type::Cluster), self.of.get(&Type::Endpoints))
        else {
            return true;
        };
        if !clusters.all || endpoints.all {
            return true;
        }
        let services = self.seen.services().into_iter();
        let mut led_to = services.flat_map(|(name, it)| resources::weighted(name, it));
        led_to.all(|(name, _)| endpoints.told.contains_key(&name))
    }

    /// Tells that clusters are gone, which nobody uses any more.
    fn let_go(&mut self) -> Option<Push> {
        let it = self.of.get_mut(&Type::Cluster)?;
        let gone: Vec<String> = it
            .told
            .keys()
            .filter(|name| {
                resources::resource(&self.seen, Type::Cluster, name, &self.asker).is_none()
            })
            .cloned()
            .collect();
        if gone.is_empty() {
            return None;
        }
        for name in &gone {
            it.told.remove(name);
        }
        let names: Vec<String> = it.told.keys().cloned().collect();
        let all = match self.delta {
            true => Vec::new(),
            false => self.read(Type::Cluster, &names),
        };
        Some(self.push(Type::Cluster, all, gone))
    }

    fn read(&self, kind: Type, names: &[String]) -> Vec<(String, Any)> {
        let read = |name: &String| {
            let found = resources::resource(&self.seen, kind, name, &self.asker);
            // One that is gone stays until nothing leads to it.
            let held = |_: &()| kind == Type::Cluster;
            let found = found
                .or_else(|| Some(()).filter(held).map(|()| resources::cluster(&self.seen, name)));
            Some((name.clone(), found?))
        };
        names.iter().filter_map(read).collect()
    }

    /// Tells what is new of a kind: of these services, or of all. `must` is to say something even
    /// if there is nothing.
    fn tell(
        &mut self,
        kind: Type,
        services: Option<&BTreeSet<String>>,
        must: bool,
    ) -> Option<Push> {
        let it = self.of.get(&kind).filter(|it| it.begun)?;
        let concerned = |name: &String| {
            services.is_none_or(|services| {
                resources::service_of(&self.seen, kind, name)
                    .is_none_or(|service| services.contains(service))
            })
        };
        let mut names: BTreeSet<String> =
            it.names.iter().filter(|it| concerned(it)).cloned().collect();
        if it.all {
            let all = resources::names(&self.seen, kind, &self.asker);
            names.extend(all.into_iter().filter(concerned));
        }
        names.remove("*");
        let mut found = Vec::new();
        for name in &names {
            let Some(any) = resources::resource(&self.seen, kind, name, &self.asker) else {
                continue;
            };
            let digest = digest(&any);
            if it.told.get(name) != Some(&digest) {
                found.push((name.clone(), any));
            }
        }
        // Clusters go last, when routes have let go of them.
        let gone: Vec<String> = match kind {
            Type::Cluster => Vec::new(),
            Type::Endpoints | Type::Listener | Type::Routes => {
                let told = it.told.keys().filter(|name| concerned(name));
                let gone = |name: &&String| {
                    resources::resource(&self.seen, kind, name, &self.asker).is_none()
                };
                told.filter(gone).cloned().collect()
            }
        };
        if found.is_empty() && gone.is_empty() && !must {
            return None;
        }
        if !self.delta && kind.is_whole() {
            // Everything is said again, also what is as it was.
            let it = self.of.get(&kind)?;
            let mut whole: BTreeSet<String> = it.told.keys().cloned().collect();
            whole.extend(names);
            whole.retain(|name| !gone.contains(name));
            let kept = kind == Type::Cluster;
            let whole: Vec<String> = whole
                .into_iter()
                .filter(|name| {
                    let told = it.told.contains_key(name) && kept;
                    told || resources::resource(&self.seen, kind, name, &self.asker).is_some()
                })
                .collect();
            found = self.read(kind, &whole);
        }
        // Without the state of the world there is no way to say that something is gone.
        let silent = !self.delta && found.is_empty() && !must && !kind.is_whole();
        if silent {
            let it = self.of.get_mut(&kind)?;
            it.told.retain(|name, _| !gone.contains(name));
            return None;
        }
        Some(self.push(kind, found, gone))
    }

    fn push(&mut self, kind: Type, found: Vec<(String, Any)>, gone: Vec<String>) -> Push {
        self.last_nonce += 1;
        let nonce = self.last_nonce.to_string();
        let it = self.of.entry(kind).or_default();
        let resources = found.into_iter().map(|(name, any)| {
            let digest = digest(&any);
            it.told.insert(name.clone(), digest);
            (name, format!("{digest:x}"), any)
        });
        let resources: Vec<_> = resources.collect();
        for name in &gone {
            it.told.remove(name);
        }
        nonce.clone_into(&mut it.nonce);
        it.waits = true;
        it.refused = false;
        let version = self.seen.index().to_string();
        Push { kind, nonce, version, resources, removed: gone }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::{Discovery, Probe, Protocol, RevisionNumber, Weight};
    use evenkeel_kernel::routing::directory::{Directory, Seen};
    use evenkeel_kernel::routing::{self, RoutingTable};
    use evenkeel_kernel::world::Health;

    use super::*;

    /// `web` with these weights, one instance each.
    fn catalog(before: &Catalog, weights: &[(u32, u16)]) -> Arc<Catalog> {
        let mut web = routing::Service::default();
        for (revision, weight) in weights {
            let addr = ([127, 0, 0, 1], u16::try_from(*revision).unwrap()).into();
            let pool = routing::Pool {
                health: routing::Health {
                    probe: Probe::Tcp,
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_secs(1),
                    healthy_after: 1,
                    unhealthy_after: 1,
                },
                instances: [(1, routing::Instance { addr, draining: false })].into(),
                protocol: Protocol::default(),
                tls: None,
                drain: Duration::ZERO,
                drain_long_lived: Duration::ZERO,
            };
            web.pools.insert(RevisionNumber(*revision), pool);
            web.split.insert(RevisionNumber(*revision), Weight(*weight));
        }
        let table = RoutingTable {
            stack: Some("shop".parse().unwrap()),
            discovery: Discovery::default(),
            services: [("web".parse().unwrap(), web)].into(),
            ..RoutingTable::default()
        };
        let well = |_: &_| Seen { health: Health::Healthy, once: true };
        let directory: Directory = before.directory.next(&table, &well);
        Arc::new(Catalog { directory: Arc::new(directory), ..Catalog::default() })
    }

    fn names(names: &[&str]) -> Asked {
        Asked { names: Some(names.iter().map(|it| (*it).to_owned()).collect()), ..Asked::default() }
    }

    fn taken(push: &Push, list: &[&str]) -> Asked {
        Asked { nonce: push.nonce.clone(), ..names(list) }
    }

    /// What is told, in short.
    fn told(pushes: &[Push]) -> Vec<String> {
        let one = |it: &Push| {
            let names: Vec<&str> = it.resources.iter().map(|(name, ..)| name.as_str()).collect();
            let gone: Vec<String> = it.removed.iter().map(|name| format!("-{name}")).collect();
            format!("{:?} {} {}", it.kind, names.join(" "), gone.join(" ")).trim().to_owned()
        };
        pushes.iter().map(one).collect()
    }

    #[test]
    fn what_is_new_is_told_before_routes_and_what_is_old_goes_after_them() {
        let now = Instant::now();
        let first = catalog(&Catalog::default(), &[(1, 10_000)]);
        let mut stream = Stream::new(false, Asker::default(), Arc::clone(&first));
        let clusters = stream.ask(Type::Cluster, names(&[]), now);
        assert_eq!(told(&clusters), ["Cluster web@r1"]);
        assert!(stream.ask(Type::Cluster, taken(&clusters[0], &[]), now).is_empty());
        let endpoints = stream.ask(Type::Endpoints, names(&["web@r1"]), now);
        assert!(stream.ask(Type::Endpoints, taken(&endpoints[0], &["web@r1"]), now).is_empty());
        let routes = stream.ask(Type::Routes, names(&["web"]), now);
        assert_eq!(told(&routes), ["Routes web"]);
        assert!(stream.ask(Type::Routes, taken(&routes[0], &["web"]), now).is_empty());

        // The second revision comes with all the traffic, and the first goes at once.
        let second = catalog(&first, &[(2, 10_000)]);
        let clusters = stream.follow(second, now);
        assert_eq!(told(&clusters), ["Cluster web@r1 web@r2"], "the old one stays for now");
        assert!(stream.ask(Type::Cluster, taken(&clusters[0], &[]), now).is_empty());
        let both = ["web@r1", "web@r2"];
        let endpoints = stream.ask(Type::Endpoints, names(&both), now);
        assert_eq!(told(&endpoints), ["Endpoints web@r2"]);
        let routes = stream.ask(Type::Endpoints, taken(&endpoints[0], &both), now);
        assert_eq!(told(&routes), ["Routes web"], "once there are endpoints");
        let gone = stream.ask(Type::Routes, taken(&routes[0], &["web"]), now);
        assert_eq!(told(&gone), ["Cluster web@r2 -web@r1"]);
    }

    #[test]
    fn what_was_told_is_taken_when_all_of_it_was_answered_and_nothing_refused() {
        let now = Instant::now();
        let told = |generation, weights: &[(u32, u16)], before: &Catalog| {
            let mut catalog = Catalog::clone(&catalog(before, weights));
            let directory = Directory { generation, ..Directory::clone(&catalog.directory) };
            catalog.directory = Arc::new(directory);
            Arc::new(catalog)
        };
        let first = told(Generation(1), &[(1, 10_000)], &Catalog::default());
        let mut stream = Stream::new(false, Asker::default(), Arc::clone(&first));
        assert_eq!(stream.services(), Some(BTreeSet::new()));
        let clusters = stream.ask(Type::Cluster, names(&["web@r1"]), now);
        assert_eq!(stream.services(), Some(["web".to_owned()].into()));
        stream.ask(Type::Cluster, taken(&clusters[0], &["web@r1"]), now);
        let endpoints = stream.ask(Type::Endpoints, names(&["web@r1"]), now);
        stream.ask(Type::Endpoints, taken(&endpoints[0], &["web@r1"]), now);
        let second = told(Generation(2), &[(1, 5_000), (2, 5_000)], &first);
        stream.follow(Arc::clone(&second), now);
        assert_eq!(stream.taken(), Generation(2));
        let both = ["web@r1", "web@r2"];
        let endpoints = stream.ask(Type::Endpoints, names(&both), now);
        let third = told(Generation(3), &[(2, 10_000)], &second);
        stream.follow(third, now);
        assert_eq!(stream.taken(), Generation(2), "an answer is missing");
        let refused = Asked { refused: true, ..taken(&endpoints[0], &both) };
        stream.ask(Type::Endpoints, refused, now);
        stream.follow_on(now);
        assert_eq!(stream.taken(), Generation(2), "it was refused");
    }

    #[test]
    fn nobody_waits_for_ever_for_somebody_who_takes_nothing() {
        let now = Instant::now();
        let first = catalog(&Catalog::default(), &[(1, 10_000)]);
        let mut stream = Stream::new(true, Asker::default(), Arc::clone(&first));
        let more = |list: &[&str]| Asked {
            more: list.iter().map(|it| (*it).to_owned()).collect(),
            ..Asked::default()
        };
        assert_eq!(told(&stream.ask(Type::Cluster, more(&[]), now)), ["Cluster web@r1"]);
        assert_eq!(told(&stream.ask(Type::Routes, more(&["web"]), now)), ["Routes web"]);
        let second = catalog(&first, &[(2, 10_000)]);
        assert_eq!(told(&stream.follow(second, now)), ["Cluster web@r2"]);
        assert!(stream.follow_on(now).is_empty());
        let later = stream.due().unwrap();
        assert_eq!(told(&stream.follow_on(later)), ["Routes web", "Cluster  -web@r1"]);
        assert_eq!(stream.due(), None);
    }

    #[test]
    fn a_revision_that_drains_as_a_whole_keeps_its_endpoints_until_routes_have_left_it() {
        let now = Instant::now();
        let first = catalog(&Catalog::default(), &[(1, 5_000), (2, 5_000)]);
        let mut stream = Stream::new(false, Asker::default(), Arc::clone(&first));
        let both = ["web@r1", "web@r2"];
        for (kind, list) in [(Type::Endpoints, &both[..]), (Type::Routes, &["web"][..])] {
            let push = stream.ask(kind, names(list), now);
            stream.ask(kind, taken(&push[0], list), now);
        }
        // It is taken back: no weight any more, and on its way out, all at once.
        let mut directory = Directory::clone(&first.directory);
        let web = directory.services.values_mut().next().unwrap();
        let pools = &mut Arc::make_mut(web).pools;
        Arc::make_mut(pools.get_mut(&RevisionNumber(1)).unwrap()).weight = Weight(10_000);
        let leaving = Arc::make_mut(pools.get_mut(&RevisionNumber(2)).unwrap());
        leaving.weight = Weight(0);
        leaving.instances[0].draining = true;
        let next = Arc::new(Catalog { directory: Arc::new(directory), ..Catalog::default() });
        assert_eq!(told(&stream.follow(next, now)), ["Routes web"], "endpoints are as they were");
    }

    #[test]
    fn an_answer_to_something_older_is_passed_over_and_a_refusal_is_counted() {
        let now = Instant::now();
        let first = catalog(&Catalog::default(), &[(1, 10_000)]);
        let mut stream = Stream::new(false, Asker::default(), Arc::clone(&first));
        let listener = stream.ask(Type::Listener, names(&["web.shop.internal:80"]), now);
        assert_eq!(told(&listener), ["Listener web.shop.internal:80"]);
        let older = Asked { nonce: "77".to_owned(), ..names(&["nobody"]) };
        assert!(stream.ask(Type::Listener, older, now).is_empty());
        let refused = Asked { refused: true, ..taken(&listener[0], &["web.shop.internal:80"]) };
        assert!(stream.ask(Type::Listener, refused, now).is_empty());
        assert_eq!(stream.refusals, 1);
        // A name that is not there is said not to be there.
        let nobody = stream.ask(Type::Listener, taken(&listener[0], &["nobody"]), now);
        assert_eq!(told(&nobody), ["Listener"]);
    }

    #[test]
    fn a_revision_that_has_nobody_left_gives_its_part_to_the_other() {
        let now = Instant::now();
        let first = catalog(&Catalog::default(), &[(1, 9_000), (2, 1_000)]);
        let mut stream = Stream::new(true, Asker::default(), Arc::clone(&first));
        for kind in [Type::Cluster, Type::Endpoints, Type::Listener, Type::Routes] {
            stream.ask(kind, Asked { more: vec!["*".to_owned()], ..Asked::default() }, now);
        }
        let ill = Seen { health: Health::Unhealthy, once: true };
        let id = "web.r2.1".parse().unwrap();
        let directory = first.directory.with([(id, ill)]).unwrap();
        let next = Arc::new(Catalog { directory: Arc::new(directory), ..Catalog::default() });
        // Its endpoints stay as they were, for calls that are on their way.
        assert_eq!(told(&stream.follow(next, now)), [] as [&str; 0], "routes wait to be taken");
        let later = stream.due().unwrap();
        assert_eq!(told(&stream.follow_on(later)), ["Routes shop"]);
    }
}
