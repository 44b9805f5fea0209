//! What an issuer asks to see whether a host is ours, and what it is answered: a text over HTTP
//! (RFC 8555, 8.3), or a certificate of a kind of its own over TLS (RFC 8737).
//!
//! Each is a file, so that an edge that leaves its place and its successor both answer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use evenkeel_kernel::layout;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Serialize};

use super::secret;
use crate::log;

/// Where a request that asks begins.
const PATH: &str = "/.well-known/acme-challenge/";
/// What is spoken by who asks over TLS.
pub(crate) const ALPN: &[u8] = b"acme-tls/1";
/// The longest token; they are some forty bytes.
const TOKEN_MAX: usize = 128;
/// The most bytes of a file; they are some three hundred.
const FILE_BYTES_MAX: u64 = 8 * 1024;
/// How many are kept at a time: one order has at most a hundred hosts.
const CHALLENGES_MAX: usize = 256;
/// How old one may become that nobody has taken back: orders take minutes.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// All that may be asked now.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    known: ArcSwap<BTreeMap<String, Known>>,
    reading: Mutex<()>,
}

/// What is kept of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Challenge {
    pub(super) host: String,
    /// What is answered over HTTP.
    pub(super) answer: String,
    /// What is shown over TLS: the SHA-256 of that.
    pub(super) digest: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Known {
    challenge: Challenge,
    tls: Arc<ServerConfig>,
}

impl Challenges {
    /// What to answer a request for this path, if somebody may ask that now.
    pub(crate) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.known.load().get(token).map(|it| it.challenge.answer.clone())
    }

    /// What to show who asks over TLS for this host.
    pub(crate) fn tls(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let known = self.known.load();
        let it = known.values().find(|it| it.challenge.host.eq_ignore_ascii_case(host))?;
        Some(Arc::clone(&it.tls))
    }

    /// Answers this one from now on.
    pub(super) fn post(&self, home: &Path, token: &str, challenge: &Challenge) -> io::Result<()> {
        if !is_token(token) {
            return Err(io::Error::other("the token is not one"));
        }
        shown(challenge).map_err(io::Error::other)?;
        secret::replace(&folder(home).join(token), &serde_json::to_vec(challenge)?)?;
        self.refresh(home);
        if self.known.load().contains_key(token) {
            Ok(())
        } else {
            Err(io::Error::other("too many are asked at a time"))
        }
    }

    /// Answers these no more.
    pub(super) fn take_back(&self, home: &Path, tokens: &[String]) {
        for token in tokens {
            // One that stays is answered for an hour, to whoever knows its name.
            let _gone = fs::remove_file(folder(home).join(token));
        }
        self.refresh(home);
    }

    /// Knows what the files say.
    pub(crate) fn refresh(&self, home: &Path) {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.known.load();
        let mut known = BTreeMap::new();
        for (token, file) in files(&folder(home)) {
            let read = match before.get(&token) {
                Some(it) => Ok(it.clone()),
                None => read(&file),
            };
            match read {
                Ok(it) => drop(known.insert(token, it)),
                // Taken back just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    log::warn(format_args!("{} cannot be read: {error}", file.display()));
                    let _removed = fs::remove_file(file);
                }
            }
        }
        if !known.keys().eq(before.keys()) {
            self.known.store(Arc::new(known));
        }
    }
}

fn folder(home: &Path) -> PathBuf {
    home.join(layout::CHALLENGES)
}

/// Whether this can be a token: base64url, so that it is also the name of a file and of nothing
/// else.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// The files that are there, by token; what is too old is removed.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten().take(CHALLENGES_MAX) {
        let Some(token) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let age = entry.metadata().and_then(|it| it.modified()).map(|it| it.elapsed());
        if matches!(age, Ok(Ok(age)) if age > AGE_MAX) {
            let _removed = fs::remove_file(entry.path());
        } else if is_token(&token) {
            files.push((token, entry.path()));
        }
    }
    files
}

fn read(file: &Path) -> io::Result<Known> {
    if fs::metadata(file)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let challenge: Challenge = serde_json::from_slice(&fs::read(file)?)?;
    let tls = Arc::new(shown(&challenge).map_err(io::Error::other)?);
    Ok(Known { challenge, tls })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The certificate by which a host is proved (RFC 8737, 3), and nothing that could be said after
/// it.
fn shown(challenge: &Challenge) -> Result<ServerConfig, Failure> {
    if challenge.digest.len() != 32 {
        return Err("the digest is not one".into());
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![challenge.host.clone()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&challenge.digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let key = provider.key_provider.load_private_key(key)?;
    // It is of a kind that nobody but an issuer takes, so it is not looked at here.
    let shown = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(host: &str) -> Challenge {
        Challenge { host: host.to_owned(), answer: format!("for {host}"), digest: vec![7; 32] }
    }

    #[test]
    fn what_is_posted_is_answered_by_everybody_until_it_is_taken_back() {
        let home = tempfile::tempdir().unwrap();
        let (one, other) = (Challenges::default(), Challenges::default());
        let path = "/.well-known/acme-challenge/abc_-1";
        assert_eq!(one.answer(path), None);
        one.post(home.path(), "abc_-1", &challenge("shop.test")).unwrap();
        other.refresh(home.path());
        for it in [&one, &other] {
            assert_eq!(it.answer(path).as_deref(), Some("for shop.test"));
            assert_eq!(it.answer("/abc_-1"), None);
            assert_eq!(it.answer("/.well-known/acme-challenge/"), None);
            assert!(it.tls("SHOP.test").is_some() && it.tls("other.test").is_none());
        }
        one.take_back(home.path(), &["abc_-1".to_owned()]);
        other.refresh(home.path());
        assert!(one.answer(path).is_none() && other.answer(path).is_none());
        assert!(other.tls("shop.test").is_none());
    }

    #[test]
    fn a_token_is_never_another_file() {
        let home = tempfile::tempdir().unwrap();
        let challenges = Challenges::default();
        for token in ["", ".", "../x", "a/b", "a.b", "\0", "ä", &"x".repeat(129)] {
            assert!(challenges.post(home.path(), token, &challenge("a.test")).is_err(), "{token}");
        }
        assert!(!folder(home.path()).exists());
    }

    #[test]
    fn what_nobody_can_read_or_wants_any_more_goes_away() {
        let home = tempfile::tempdir().unwrap();
        let challenges = Challenges::default();
        challenges.post(home.path(), "good", &challenge("a.test")).unwrap();
        let old = folder(home.path()).join("old");
        fs::copy(folder(home.path()).join("good"), &old).unwrap();
        let then = std::time::SystemTime::now() - AGE_MAX - Duration::from_secs(10);
        fs::File::options().write(true).open(&old).unwrap().set_modified(then).unwrap();
        fs::write(folder(home.path()).join("bad"), "{").unwrap();
        challenges.refresh(home.path());
        assert_eq!(challenges.known.load().keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(fs::read_dir(folder(home.path())).unwrap().count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_file_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder(home.path())).unwrap();
            fs::write(folder(home.path()).join("x"), bytes).unwrap();
            let challenges = Challenges::default();
            challenges.refresh(home.path());
            prop_assert!(challenges.answer("/.well-known/acme-challenge/x").is_none());
        }
    }
}
