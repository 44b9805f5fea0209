//! Who the edge is to an issuer: a key, and the account that was opened with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{Acme, Digest};
use instant_acme::{Account, AccountCredentials, Error, NewAccount};
use serde::{Deserialize, Serialize};

use super::https::Https;
use super::secret;
use crate::log;

/// What is kept of an account.
#[derive(Serialize, Deserialize)]
struct Kept {
    contact: Option<String>,
    credentials: AccountCredentials,
}

/// The account at an issuer: the one that is kept, or a new one.
pub(super) async fn open(home: &Path, acme: &Acme) -> Result<Account, Error> {
    let failed = |error: io::Error| Error::Other(error.into());
    let https = || Https::new(acme.root.as_deref()).map_err(failed);
    let path = file(home, &acme.directory);
    let contact = acme.contact.as_deref().map(url);
    let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
    if let Some(mut kept) = read(&path).map_err(failed)? {
        let credentials = copy(&kept.credentials)?;
        let account = Account::builder_with_http(Box::new(https()?));
        let account = account.from_credentials(credentials).await?;
        if kept.contact != contact {
            account.update_contacts(&contacts).await?;
            kept.contact.clone_from(&contact);
            secret::replace(&path, &serde_json::to_vec(&kept)?).map_err(failed)?;
        }
        return Ok(account);
    }
    let new = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let account = Account::builder_with_http(Box::new(https()?));
    let (account, credentials) = account.create(&new, acme.directory.clone(), None).await?;
    let kept = Kept { contact, credentials };
    secret::replace(&path, &serde_json::to_vec(&kept)?).map_err(failed)?;
    log::info(format_args!("has an account at {}", acme.directory));
    Ok(account)
}

/// Forgets an account that its issuer does not know any more.
pub(super) fn forget(home: &Path, acme: &Acme) {
    // One that stays is refused again, and that is told.
    let _removed = fs::remove_file(file(home, &acme.directory));
}

fn file(home: &Path, directory: &str) -> PathBuf {
    let digest = Digest::of(directory.as_bytes());
    let short = digest.hex().get(..16).unwrap_or_default();
    home.join(layout::ACME).join(format!("account-{short}.json"))
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            // Not opened anew: the key in it may be all that somebody has.
            io::Error::other(format!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The crate's own type cannot be cloned.
fn copy(credentials: &AccountCredentials) -> Result<AccountCredentials, Error> {
    Ok(serde_json::from_value(serde_json::to_value(credentials)?)?)
}

/// An address of mail as the URL that the issuer wants.
fn url(contact: &str) -> String {
    if contact.contains(':') { contact.to_owned() } else { format!("mailto:{contact}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_an_address_or_a_url() {
        assert_eq!(url("ops@example.com"), "mailto:ops@example.com");
        assert_eq!(url("mailto:ops@example.com"), "mailto:ops@example.com");
    }

    #[test]
    fn each_issuer_has_its_own_account_and_a_broken_one_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let (a, b) = (file(home.path(), "https://a.test/"), file(home.path(), "https://b.test/"));
        assert_ne!(a, b);
        assert!(read(&a).unwrap().is_none());
        secret::replace(&a, b"{").unwrap();
        assert!(read(&a).is_err());
        assert!(a.exists());
    }
}
