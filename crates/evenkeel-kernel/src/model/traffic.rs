//! How requests spread: over the instances of a service, and over its revisions.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::service::{Weight, is_default};

/// How the edge spreads the requests of a service over its instances. No part of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Which instance is picked.
    pub balance: Balance,
    /// Time over which the share of a new instance grows from a tenth to the whole.
    pub slow_start: Duration,
    /// Requests that one instance answers at a time.
    pub in_flight_max: u32,
    /// Requests that wait while no instance can be tried.
    pub queue_max: u32,
    /// How long each of them waits.
    pub queue_wait: Duration,
    /// The most instances of a pool that are left out because their answers fail; none is left out
    /// where this is nothing.
    pub eject_max: Weight,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            slow_start: Duration::from_secs(10),
            in_flight_max: 1_024,
            queue_max: 1_024,
            queue_wait: Duration::from_secs(3),
            eject_max: Weight(5_000),
        }
    }
}

/// Which instance of a pool is picked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Of a few drawn by chance the one with the least latency times requests in flight.
    #[default]
    PeakEwma,
    /// Of a few drawn by chance the one with the fewest requests in flight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The same for the same key, as long as it is well and not overloaded.
    Hash(HashKey),
}

impl Balance {
    /// The words of the stack file.
    pub const NAMES: &[&str] = &["peak-ewma", "least-request", "round-robin", "hash"];

    /// The word of the stack file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PeakEwma => "peak-ewma",
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Hash(_) => "hash",
        }
    }
}

/// What a request is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashKey {
    /// The address it comes from.
    Client,
    /// A header, by its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// Its path.
    Path,
}

impl HashKey {
    /// Reads `client`, `path`, `header:NAME` or `cookie:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "client" => Some(Self::Client),
            None if text == "path" => Some(Self::Path),
            Some(("header", name)) if is_token(name) => {
                Some(Self::Header(name.to_ascii_lowercase()))
            }
            Some(("cookie", name)) if is_token(name) => Some(Self::Cookie(name.to_owned())),
            _ => None,
        }
    }
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// Whether this can be the name of a header or a cookie (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(fits)
}

/// Copies of requests that a new revision gets before and while it has traffic. Nobody waits for
/// their answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// How many of the requests are copied.
    pub share: Weight,
    /// Only those with these methods.
    pub methods: BTreeSet<String>,
}

impl Mirror {
    /// The methods that are defined to change nothing.
    #[must_use]
    pub fn safe_methods() -> BTreeSet<String> {
        ["GET", "HEAD", "OPTIONS"].map(str::to_owned).into()
    }
}

/// How far along 0 to 9,999 a key lies; the same on every machine and in every version, so that a
/// person stays where they are.
#[must_use]
pub fn place_of(key: &str) -> u16 {
    let place = hash(key.as_bytes()) % u64::from(Weight::ALL.0);
    u16::try_from(place).unwrap_or(0)
}

/// FNV-1a (64 bit) with the last step of MurmurHash3, so that short keys spread too.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What of a rollout concerns single requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// Requests of one person, known by this, stay on one revision.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sticky: Option<Sticky>,
    /// Requests like these go to the new revision as soon as it is ready, whatever its weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub testers: Option<super::route::Matches>,
    /// Copies for the new revision.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mirror: Option<Mirror>,
}

/// By what one person's requests are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// A cookie that the edge gives to those who have none.
    Own,
    /// Something they have already.
    By(HashKey),
}

impl Sticky {
    /// Reads `cookie`, `client`, `header:NAME` or `cookie:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match HashKey::parse(text) {
            Some(HashKey::Path) => None,
            Some(key) => Some(Self::By(key)),
            None => (text == "cookie").then_some(Self::Own),
        }
    }
}

impl std::fmt::Display for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("cookie"),
            Self::By(key) => key.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_evenly_and_stay() {
        let low = (0..10_000).filter(|n| place_of(&format!("user-{n}")) < 1_000).count();
        assert!((900..1_100).contains(&low), "{low}");
        assert_eq!(place_of("ann"), 1_683);
    }

    #[test]
    fn keys_are_read_and_written() {
        for text in ["client", "path", "header:x-user", "cookie:SID"] {
            assert_eq!(HashKey::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "header:", "header:a b", "query:x", "cookie"] {
            assert_eq!(HashKey::parse(text), None, "{text}");
        }
        assert_eq!(Sticky::parse("cookie"), Some(Sticky::Own));
        assert_eq!(Sticky::parse("path"), None);
    }
}
