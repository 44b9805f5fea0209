//! Connections, from an address as people have it.

use std::str::FromStr as _;
use std::time::Duration;

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};

/// How long a connection may take that the address says nothing of.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection. Never says the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// The address cannot be read.
    #[error("the address is not one of PostgreSQL: `postgres://user:password@host:5432/name`")]
    Address,
    /// The address asks for TLS.
    #[error("the address asks for TLS (`sslmode=require`), which is not spoken yet")]
    Tls,
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
    // What is wrong with it is not repeated: it may hold a password.
    let mut config = Config::from_str(address.trim()).map_err(|_private| NotConnected::Address)?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(NotConnected::Tls);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(TIMEOUT);
    }
    config.application_name(application);
    config.connect(NoTls).map_err(NotConnected::Database)
}
