//! What is registered, as values.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{ByName, Endpoint};

/// How something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Passing,
    Warning,
    /// Also what nobody has said anything of.
    #[default]
    Critical,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub(crate) fn read(word: &str) -> Option<Self> {
        match word {
            "passing" | "pass" => Some(Self::Passing),
            "warning" | "warn" => Some(Self::Warning),
            "critical" | "fail" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// One service of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct External {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Empty: this machine.
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) weights: Weights,
    pub(crate) tests: Vec<Test>,
}

/// How much of the traffic it wants, by how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) passing: u16,
    pub(crate) warning: u16,
}

/// How one is found out to be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Test {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) notes: String,
    pub(crate) kind: Kind,
    /// After so long in a critical state it is no longer registered.
    pub(crate) gone_after: Option<Duration>,
    /// What holds until it is known.
    pub(crate) first: Status,
}

/// What is done for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// It says so itself, at least this often.
    Ttl(Duration),
    /// A page is asked for.
    Http { url: String, method: String, interval: Duration, timeout: Duration },
    /// A connection is made.
    Tcp { addr: String, interval: Duration, timeout: Duration },
}

/// What is known by one test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) status: Status,
    pub(crate) output: String,
}

/// One that is registered, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) service: Arc<External>,
    /// As many as there are tests.
    pub(crate) checked: Vec<Checked>,
}

impl Entry {
    /// The worst that is known.
    pub(crate) fn status(&self) -> Status {
        self.checked.iter().map(|it| it.status).max().unwrap_or(Status::Passing)
    }

    pub(crate) fn weight(&self) -> u16 {
        match self.status() {
            Status::Passing => self.service.weights.passing,
            Status::Warning => self.service.weights.warning,
            Status::Critical => 0,
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.service.address.as_str() {
            "" => Some(Ipv4Addr::LOCALHOST.into()),
            address => address.parse().ok(),
        }
    }
}

/// Those of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The registry's index when this last changed.
    pub(crate) index: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl Group {
    /// Those that are not critical and have an address.
    pub(crate) fn endpoints(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Endpoint> {
        let usable = |it: &&Arc<Entry>| it.status() != Status::Critical && wanted(it);
        let endpoint = |it: &Arc<Entry>| {
            let (ip, port, weight) = (it.ip()?, it.service.port, it.weight().max(1));
            Some(Endpoint { ip, port, weight, place: None })
        };
        self.entries.iter().filter(usable).filter_map(endpoint).collect()
    }
}

/// All that is registered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registered {
    /// Rises with every change.
    pub(crate) index: u64,
    /// The index of the last change of which names there are.
    pub(crate) names_index: u64,
    groups: ByName<Arc<Group>>,
}

impl Registered {
    /// Those of a name, however its letters are written.
    pub(crate) fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name).or_else(|| self.groups.get(name.to_ascii_lowercase().as_str()))
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, &Arc<Group>)> {
        self.groups.iter().map(|(name, it)| (&**name, it))
    }

    /// The names in which this differs from `before`.
    pub(crate) fn changed(&self, before: &Self) -> Vec<String> {
        let now = self.groups.iter().filter(|(name, group)| {
            before.groups.get(*name).is_none_or(|it| !Arc::ptr_eq(it, group))
        });
        let gone = before.groups.keys().filter(|name| !self.groups.contains_key(*name));
        now.map(|(name, _)| name).chain(gone).map(|name| name.to_string()).collect()
    }

    /// The same with these instead of what `name` has.
    pub(crate) fn with(&self, name: &str, entries: Vec<Arc<Entry>>) -> Self {
        let mut next = self.clone();
        next.index += 1;
        let names = self.groups.len();
        if entries.is_empty() {
            next.groups.remove(name);
        } else {
            let group = Group { index: next.index, entries };
            next.groups.insert(name.into(), Arc::new(group));
        }
        if next.groups.len() != names {
            next.names_index = next.index;
        }
        next
    }
}
