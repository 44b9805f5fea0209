//! Where services are told of, and under which names.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the discovery service is asked to be. Without an address it is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// Where DNS is answered, over UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Where the HTTP interfaces are.
    pub http: Vec<SocketAddr>,
    /// Where xDS is spoken.
    pub xds: Vec<SocketAddr>,
    /// The domain that all names end in.
    pub domain: String,
    /// Who is asked for all other names, in this order.
    pub forward: Vec<SocketAddr>,
    /// How long clients may go on by what they were told: the longest that one of them keeps an
    /// answer, and a request that it has begun.
    #[serde(default = "linger")]
    pub linger: Duration,
}

/// Answers of DNS may be kept for one second and are asked for again each second; Traefik takes
/// over what is new every two seconds; the rest is for requests that are under way.
fn linger() -> Duration {
    Duration::from_secs(5)
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            http: Vec::new(),
            xds: Vec::new(),
            domain: "internal".to_owned(),
            forward: Vec::new(),
            linger: linger(),
        }
    }
}

impl Discovery {
    /// Whether this is what holds when nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many of the files that its process may have open it may linger, so that requests never
    /// lack one because of those who only ask: an eighth, and no more than it can use.
    #[must_use]
    pub fn files(limit: u64) -> u64 {
        (limit / 8).min(16_384)
    }

    /// The addresses that are listened on, each with what is spoken there.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let all = [("dns", &self.dns), ("http", &self.http), ("xds", &self.xds)];
        all.into_iter().flat_map(|(what, addrs)| addrs.iter().map(move |addr| (what, *addr)))
    }
}
