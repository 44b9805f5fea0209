//! Routes as they are served: found for a request once, and again by name when the table changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_kernel::model::{RevisionNumber, RouteName};
use evenkeel_kernel::routing;

use crate::rate::Meter;
use crate::table::Service;
use crate::telemetry::requests::OfRoute;

/// What of a request decides where it goes.
pub(crate) struct Asked<'r> {
    /// In lower case, without port.
    pub(crate) host: &'r str,
    /// Path and query.
    pub(crate) target: &'r str,
    pub(crate) method: &'r str,
    /// The value of a header by its name in lower case.
    pub(crate) header: &'r dyn Fn(&str) -> Option<&'r str>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) source: routing::Route,
    /// None where it leads elsewhere.
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) requests: OfRoute,
}

/// A route's own name, and the revision that it is the preview of.
type Key = (RouteName, Option<RevisionNumber>);

/// All routes of a table.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Each list in the order in which they are tried.
    hosts: BTreeMap<String, Vec<Arc<Target>>>,
    /// By what follows `*.`.
    wildcards: BTreeMap<String, Vec<Arc<Target>>>,
    any_host: Vec<Arc<Target>>,
    named: BTreeMap<Key, Arc<Target>>,
}

impl Routes {
    /// Adds one. They come in the order in which they are tried.
    pub(crate) fn add(&mut self, target: Target) {
        let target = Arc::new(target);
        let list = match target.source.route.host.as_deref() {
            Some(host) => match host.strip_prefix("*.") {
                Some(rest) => self.wildcards.entry(rest.to_owned()).or_default(),
                None => self.hosts.entry(host.to_owned()).or_default(),
            },
            None => &mut self.any_host,
        };
        list.push(Arc::clone(&target));
        self.named.insert(target.key(), target);
    }

    /// The route of a request.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Option<&Arc<Target>> {
        let exact = self.hosts.get(asked.host).into_iter().flatten();
        let wild = asked.host.split_once('.').and_then(|(_, rest)| self.wildcards.get(rest));
        let all = exact.chain(wild.into_iter().flatten()).chain(&self.any_host);
        all.into_iter().find(|target| target.accepts(asked))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.named.values()
    }

    /// A route by its name, and the revision that it is the preview of.
    pub(crate) fn named(
        &self,
        name: &RouteName,
        preview: Option<RevisionNumber>,
    ) -> Option<&Arc<Target>> {
        self.named.get(&(name.clone(), preview))
    }
}

impl Asked<'_> {
    /// The path asked for. `OPTIONS *` asks the server as a whole, which is whoever answers for its
    /// root.
    pub(crate) fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        if path == "*" { "/" } else { path }
    }
}

impl Target {
    fn key(&self) -> Key {
        (self.source.name.clone(), self.source.revision)
    }

    fn accepts(&self, asked: &Asked<'_>) -> bool {
        let matches = &self.source.route.matches;
        self.source.has_path(asked.path())
            && (matches.count() == 0 || matches.accept(asked.method, asked.header))
    }
}
