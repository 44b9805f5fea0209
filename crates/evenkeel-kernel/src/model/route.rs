//! Routes: which requests from outside go where, and what holds for them on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::ServiceName;
use super::service::is_default;

/// Which requests from outside go where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The host asked for, in lower case without a port; `*.` and a name is any one label before
    /// that name; `None` is any host.
    pub host: Option<String>,
    /// The start of the path, on whole segments: `/api` matches `/api` and `/api/x`, not `/apis`.
    pub path: String,
    /// The path is the whole path and not its start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exact: bool,
    /// What else a request must have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub matches: Matches,
    /// What becomes of them.
    #[serde(flatten)]
    pub leads: Leads,
    /// What holds for them on the way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: RoutePolicy,
}

impl Route {
    /// The service that answers, if one does.
    #[must_use]
    pub fn to(&self) -> Option<&ServiceName> {
        match &self.leads {
            Leads::To(service) => Some(service),
            Leads::Redirect(_) => None,
        }
    }

    /// A route of everything below `path` to a service.
    #[must_use]
    pub fn plain(host: Option<String>, path: String, to: ServiceName) -> Self {
        Self {
            host,
            path,
            exact: false,
            matches: Matches::default(),
            leads: Leads::To(to),
            policy: RoutePolicy::default(),
        }
    }
}

/// What becomes of the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leads {
    /// A service answers them.
    #[serde(alias = "service")]
    To(ServiceName),
    /// They are sent elsewhere.
    Redirect(Redirect),
}

/// Where requests are sent instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// A URL without path, to which path and query of the request are added; or, with a path, all
    /// of it.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a request must have beside its host and path. All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matches {
    /// One of these methods, in capitals; empty is any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// Each of these headers, by its name in lower case, with a value like this: `*` is any, a
    /// `*` at the end is any end, anything else is the whole value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Each of these cookies, with a value like this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, String>,
}

impl Matches {
    /// How many conditions there are; more of them are more specific.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.cookies.len()
    }

    /// Whether a request has it all. `header` gives the value of a header by its name in lower
    /// case; of several cookie headers the joined one.
    #[must_use]
    pub fn accept<'r>(&self, method: &str, header: &dyn Fn(&str) -> Option<&'r str>) -> bool {
        let fits = |found: Option<&str>, wanted: &str| found.is_some_and(|it| like(it, wanted));
        (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(|(name, wanted)| fits(header(name), wanted))
            && (self.cookies.is_empty() || {
                let cookies = header("cookie").unwrap_or_default();
                self.cookies.iter().all(|(name, wanted)| fits(cookie(cookies, name), wanted))
            })
    }
}

/// Whether a value is like a pattern.
fn like(value: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == pattern,
    }
}

/// The value of a cookie in a `Cookie` header (RFC 6265, section 4.2.1).
#[must_use]
pub fn cookie<'r>(header: &'r str, name: &str) -> Option<&'r str> {
    header.split(';').find_map(|pair| {
        let (found, value) = pair.trim_ascii().split_once('=')?;
        (found == name).then(|| value.trim_matches('"'))
    })
}

/// What holds for the requests of a route on their way. What is not said is the edge's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePolicy {
    /// How long a request may take until its answer begins, all tries together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// How long one try may take until its answer begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub try_timeout: Option<Duration>,
    /// How often a request may be tried again on another instance.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Option<u32>,
    /// The most bytes of a request body.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body_max: Option<u64>,
    /// How many requests are let through.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate: Option<Rate>,
    /// The instance does not see the route's path: `/api/x` arrives as `/x`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strip: bool,
    /// Instead of an answer every request gets this text, with status 503.
    #[serde(default, skip_serializing_if = "is_default")]
    pub maintenance: Option<String>,
}

/// How many requests are let through: a bucket of `burst` that fills up by `requests` in `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests in `per`.
    pub requests: u32,
    /// The time in which they come.
    pub per: Duration,
    /// The most at once.
    pub burst: u32,
    /// For each address that asks, or for all together.
    pub by_client: bool,
}

/// A door for what is not HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The service that answers.
    pub to: ServiceName,
    /// Each connection to an instance begins with the client's address (PROXY protocol, version
    /// 2).
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_protocol: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        let it = Matches {
            methods: BTreeSet::from(["GET".to_owned()]),
            headers: BTreeMap::from([("x-beta".to_owned(), "*".to_owned())]),
            cookies: BTreeMap::from([("team".to_owned(), "red*".to_owned())]),
        };
        assert_eq!(it.count(), 3);
        let asks = |method: &str, beta: Option<&'static str>, cookies: Option<&'static str>| {
            it.accept(method, &|name| if name == "cookie" { cookies } else { beta })
        };
        assert!(asks("GET", Some("1"), Some("a=b; team=red-2")));
        assert!(!asks("POST", Some("1"), Some("team=red")));
        assert!(!asks("GET", None, Some("team=red")));
        assert!(!asks("GET", Some("1"), Some("xteam=red; team=blue")));
        assert!(!asks("GET", Some("1"), None));
    }

    #[test]
    fn a_route_that_an_older_version_saved_is_read() {
        let old = r#"{"host":"a.test","path":"/x","to":"web"}"#;
        let route: Route = serde_json::from_str(old).unwrap();
        let plain =
            Route::plain(Some("a.test".to_owned()), "/x".to_owned(), "web".parse().unwrap());
        assert_eq!(route, plain);
        assert_eq!(serde_json::to_string(&route).unwrap(), old);
    }
}
