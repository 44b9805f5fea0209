//! Connections, from an address as people have it.
//!
//! With `sslmode=require` the server has to show a certificate for its name that the system trusts,
//! or that hangs on the roots in `sslrootcert`; `prefer`, which is what an address means that says
//! nothing, is spoken without TLS, as it promises nothing.

mod tls;

use std::str::FromStr as _;
use std::time::Duration;

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};

use self::tls::Tls;

/// How long a connection may take that the address says nothing of.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where PostgreSQL listens, unless an address says otherwise.
const PORT: u16 = 5432;

/// Why there is no connection. Never says the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// The address cannot be read.
    #[error("the address is not one of PostgreSQL: `postgres://user:password@host:5432/name`")]
    Address,
    /// The roots that the server's certificate may hang on cannot be used.
    #[error("TLS cannot be spoken: {0}")]
    Roots(String),
    /// Nobody answered, or not as was hoped.
    #[error("could not connect")]
    Database(#[source] postgres::Error),
}

/// Connects to the database at this address, as `application`.
///
/// # Errors
///
/// Why there is no connection.
pub fn connect(address: &str, application: &str) -> Result<Client, NotConnected> {
    let (address, roots) = without_roots(address.trim());
    // What is wrong with it is not repeated: it may hold a password.
    let mut config = Config::from_str(&address).map_err(|_private| NotConnected::Address)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(TIMEOUT);
    }
    config.application_name(application);
    let connected = if config.get_ssl_mode() == SslMode::Require {
        config.connect(Tls::new(roots.as_deref()).map_err(NotConnected::Roots)?)
    } else {
        config.connect(NoTls)
    };
    connected.map_err(NotConnected::Database)
}

/// Whether two addresses lead to the same database, as far as they name it in the same way.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    let place = |address: &str| {
        let config = Config::from_str(&without_roots(address.trim()).0).ok()?;
        let ports = match config.get_ports() {
            [] => vec![PORT],
            ports => ports.to_vec(),
        };
        let hosts = (config.get_hosts().to_vec(), config.get_hostaddrs().to_vec());
        Some((hosts, ports, config.get_dbname().or(config.get_user())?.to_owned()))
    };
    place(one).is_some_and(|it| Some(it) == place(other))
}

/// An address without `sslrootcert`, which the library does not know, and what that said. Modes that
/// ask for more than `require` get what it gives here, which is as much.
fn without_roots(address: &str) -> (String, Option<String>) {
    let address = address
        .replace("sslmode=verify-full", "sslmode=require")
        .replace("sslmode=verify-ca", "sslmode=require");
    let Some(at) = address.find("sslrootcert=") else { return (address, None) };
    let rest = &address[at + "sslrootcert=".len()..];
    let end = rest.find(['&', ' ']).unwrap_or(rest.len());
    let file = rest[..end].trim_matches('\'').replace("%2F", "/").replace("%2f", "/");
    let (before, after) = (&address[..at], &rest[end..]);
    // One sign between parameters is enough.
    let after = after.strip_prefix('&').unwrap_or(after);
    let plain = format!("{before}{after}");
    (plain.trim_end_matches(['&', '?', ' ']).to_owned(), Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_taken_out_of_an_address() {
        for (address, plain, roots) in [
            (
                "postgres://h/d?sslmode=verify-full&sslrootcert=%2Fca.pem&application_name=x",
                "postgres://h/d?sslmode=require&application_name=x",
                Some("/ca.pem"),
            ),
            ("postgres://h/d?sslrootcert=ca.pem", "postgres://h/d", Some("ca.pem")),
            (
                "host=h sslmode=require sslrootcert='/ca.pem'",
                "host=h sslmode=require",
                Some("/ca.pem"),
            ),
            ("postgres://h/d", "postgres://h/d", None),
        ] {
            let found = without_roots(address);
            assert_eq!((found.0.as_str(), found.1.as_deref()), (plain, roots), "{address}");
        }
    }

    #[test]
    fn the_same_database_is_told_whoever_asks_for_it() {
        let one = "postgres://owner:x@db/shop?sslmode=require";
        for (other, same) in [
            ("postgres://app@db:5432/shop", true),
            ("host=db user=app dbname=shop", true),
            ("postgres://owner:x@db:5433/shop", false),
            ("postgres://owner:x@other/shop", false),
            ("postgres://owner:x@db", false),
            ("mysql://db/shop", false),
        ] {
            assert_eq!(is_same(one, other), same, "{other}");
        }
        assert!(!is_same("no address", "no address"));
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_repeated() {
        let error = connect("postgres://u:secret@h:port/d", "evenkeel").map(drop).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    }
}
