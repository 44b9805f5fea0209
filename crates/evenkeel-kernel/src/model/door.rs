//! The doors to the outside: where the edge listens, and what it shows there.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::service::is_default;
use super::telemetry::Telemetry;

/// Where the edge listens for requests from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The addresses, each with its port.
    pub listen: Vec<SocketAddr>,
    /// Those where TLS is spoken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Vec<SocketAddr>,
    /// Requests without TLS for a host that has a certificate are sent to `https`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub to_https: bool,
    /// Who says first for whom a connection is (PROXY protocol). Nobody else is believed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxies: Vec<Network>,
    /// Who issues certificates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub acme: Option<Acme>,
    /// What is shown of the requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub telemetry: Telemetry,
}

/// A certificate, by which the edge proves that it is a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The hosts it is for, in lower case; `*.` and a name is any one label before that name.
    pub hosts: BTreeSet<String>,
    /// Where it comes from.
    pub from: CertificateSource,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateSource {
    /// Two files of PEM, by absolute path. The edge reads them, and again when they change.
    Files {
        /// The chain, its own certificate first.
        chain: String,
        /// The private key.
        key: String,
    },
    /// It is ordered and renewed by ACME (RFC 8555).
    Acme,
}

/// Who issues certificates by ACME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// The URL of its directory.
    pub directory: String,
    /// Where it may write to.
    pub contact: Option<String>,
    /// A file of PEM with the root that its own certificate hangs on, where the system does not
    /// know it.
    pub root: Option<String>,
}

impl Acme {
    /// Let's Encrypt.
    pub const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
}

/// A range of addresses: `10.0.0.0/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    addr: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(ours.to_bits().into(), theirs.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                same(ours.to_bits(), theirs.to_bits(), 128, self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Whether the first `bits` of two numbers of `width` bits are the same.
fn same(one: u128, other: u128, width: u8, bits: u8) -> bool {
    (one ^ other).checked_shr(u32::from(width - bits)).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let addr = addr.parse::<IpAddr>().map_err(drop)?.to_canonical();
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse::<u8>().map_err(drop))?;
        if bits > width { Err(()) } else { Ok(Self { addr, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|()| serde::de::Error::custom("not a range of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let has =
            |net: &str, addr: &str| net.parse::<Network>().unwrap().contains(addr.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.1.2.3") && !has("10.0.0.0/8", "11.1.2.3"));
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(has("0.0.0.0/0", "9.9.9.9") && !has("0.0.0.0/0", "::1"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "x", "::/129"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
