//! Names and numbers that must not be mixed up with one another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a name is 1 to 63 lower-case letters, digits and dashes, and starts with a letter",
        )
    }
}

impl std::error::Error for InvalidName {}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// A clone is cheap: names are copied with every state and every world.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(InvalidName) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a stack: a DNS label, because discovery puts it into host names.
    StackName
}
name! {
    /// The name of a service: a DNS label.
    ServiceName
}
name! {
    /// The name of a route: a DNS label.
    RouteName
}
name! {
    /// The name of a certificate: a DNS label.
    CertificateName
}
name! {
    /// The name of a check: a DNS label.
    CheckName
}
name! {
    /// The name of a receiver of news: a DNS label.
    ReceiverName
}

name! {
    /// The name of a freeze: a DNS label.
    FreezeName
}

name! {
    /// The name of a database: a DNS label.
    DatabaseName
}

impl DatabaseName {
    /// The environment variable in which a service finds it: `MAIN_URL`.
    #[must_use]
    pub fn url_variable(&self) -> String {
        format!("{}_URL", self.0.to_ascii_uppercase().replace('-', "_"))
    }
}

impl ServiceName {
    /// The environment variable in which another service finds this one: `CATALOG_URL`.
    #[must_use]
    pub fn url_variable(&self) -> String {
        format!("{}_URL", self.0.to_ascii_uppercase().replace('-', "_"))
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub $inner);

        impl $type {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }
    };
}

number! {
    /// The number people know a revision of a service by: `r12`. Rises by one, is never reused.
    RevisionNumber(u32), "r"
}
number! {
    /// The number of a release: `#7`. Rises by one, is never reused.
    ReleaseId(u64), "#"
}
number! {
    /// Which controller speaks. Every start of control claims the next one; executors refuse
    /// lower ones.
    Epoch(u64), "epoch "
}
number! {
    /// Which decision is spoken about. Rises with every change of what should be true; executors
    /// refuse lower ones.
    Generation(u64), "generation "
}

/// All instances of one revision of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolId {
    /// The service.
    pub service: ServiceName,
    /// Its revision.
    pub revision: RevisionNumber,
}

impl PoolId {
    /// The pool of `revision` of `service`.
    #[must_use]
    pub fn new(service: &ServiceName, revision: RevisionNumber) -> Self {
        Self { service: service.clone(), revision }
    }

    /// The instance in `slot` of this pool.
    #[must_use]
    pub fn instance(&self, slot: u32) -> InstanceId {
        InstanceId { pool: self.clone(), slot }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.service, self.revision))
    }
}

/// One instance: a place in a pool. Its text form `web.r12.3` is also the name of its folder.
///
/// A slot number is used once in the life of a revision. So an order to stop an instance can never
/// hit another one, however late it arrives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Its number in the pool, from 1.
    pub slot: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.pool.service, self.pool.revision, self.slot))
    }
}

impl FromStr for InstanceId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(InvalidName);
        let service = part()?.parse()?;
        let revision = part()?.strip_prefix('r').and_then(|n| n.parse().ok()).ok_or(InvalidName)?;
        let slot = part()?.parse().map_err(|_error| InvalidName)?;
        if parts.next().is_some() {
            return Err(InvalidName);
        }
        Ok(Self { pool: PoolId { service, revision: RevisionNumber(revision) }, slot })
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

/// The SHA-256 of something immutable. Shown as `sha256:1f2e…` by its first twelve digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(Arc<str>);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(&sha2::Sha256::digest(bytes))
    }

    /// Wraps a SHA-256 that was computed elsewhere, piece by piece.
    #[must_use]
    pub fn from_sha256(hash: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in hash {
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self(hex.into())
    }

    /// All 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0.get(..12).unwrap_or(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s40_names_are_dns_labels() {
        for good in ["web", "w", "web-2", "a1"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "Web", "2web", "-web", "web-", "we b", "web.x", &"w".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn s40_an_instance_is_read_back_from_its_name() {
        let id = PoolId::new(&"web".parse().unwrap(), RevisionNumber(12)).instance(3);
        assert_eq!(id.to_string(), "web.r12.3");
        assert_eq!("web.r12.3".parse(), Ok(id));
        for bad in ["web", "web.r1", "web.1.2", "web.r1.2.3", "web.r1.x"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
