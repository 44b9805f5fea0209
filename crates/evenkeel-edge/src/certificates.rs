//! What the edge proves itself by, and others to it: certificates, read from files and read again
//! when these change. What is open stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use evenkeel_kernel::layout;
use evenkeel_kernel::model::{CertificateName, CertificateSource, UpstreamTls};
use evenkeel_kernel::routing::Shown;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::log;
use crate::shared::Shared;
use crate::validity::Validity;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most bytes of a file of certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What is spoken within TLS, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    current: ArcSwap<Current>,
    clients: Mutex<BTreeMap<UpstreamTls, (Stamps, Arc<Upstream>)>>,
}

#[derive(Debug, Default)]
struct Current {
    files: BTreeMap<CertificateName, (Stamps, Arc<CertifiedKey>)>,
    /// Files that could not be read, so that each is told of once.
    broken: BTreeMap<CertificateName, (Stamps, String)>,
    hosts: Arc<Hosts>,
    config: Option<Arc<ServerConfig>>,
}

/// Certificates by host; `*.` and a name is any one label before it.
#[derive(Debug, Default)]
struct Hosts(BTreeMap<String, Arc<CertifiedKey>>);

impl Hosts {
    fn find(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let wild = || {
            let (_, rest) = host.split_once('.')?;
            self.0.get(&format!("*.{rest}"))
        };
        self.0.get(host).or_else(wild)
    }
}

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?.to_ascii_lowercase();
        self.find(&host).map(Arc::clone)
    }
}

/// By what a file is known to have changed: when, how long, which.
pub(crate) type Stamp = Option<(i64, i64, u64, u64)>;
pub(crate) type Stamps = [Stamp; 3];

fn stamp(file: &Path) -> Stamp {
    let it = std::fs::metadata(file).ok()?;
    Some((it.mtime(), it.mtime_nsec(), it.len(), it.ino()))
}

/// The same of a chain and its key.
pub(crate) fn stamps_of(chain: &Path, key: &Path) -> Stamps {
    [stamp(chain), stamp(key), None]
}

/// How TLS is spoken to the instances of a pool.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) config: Arc<ClientConfig>,
    /// The same for HTTP/2, which it asks for: servers of gRPC hang up on who does not.
    pub(crate) multiplexed: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Certificates {
    /// Whether there is one for a host, in lower case.
    pub(crate) fn has(&self, host: &str) -> bool {
        self.current.load().hosts.find(host).is_some()
    }

    /// From when and until when what is shown is good.
    pub(crate) fn validity(&self, name: &CertificateName) -> Option<Validity> {
        let current = self.current.load();
        let (_, shown) = current.files.get(name)?;
        Validity::read(shown.cert.first()?)
    }

    /// Why its files cannot be read, if they cannot.
    pub(crate) fn why_not(&self, name: &CertificateName) -> Option<String> {
        self.current.load().broken.get(name).map(|(_, why)| why.clone())
    }

    /// How TLS is spoken to clients; `None` while there is no certificate at all.
    pub(crate) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.current.load().config.clone()
    }

    /// How TLS is spoken to such instances; read when it is asked for first, and when its files
    /// have changed since.
    pub(crate) fn upstream(&self, tls: &UpstreamTls) -> io::Result<Arc<Upstream>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = clients.get(tls) {
            return Ok(Arc::clone(known));
        }
        let stamps = upstream_stamps(tls);
        let read = Arc::new(read_upstream(tls)?);
        clients.insert(tls.clone(), (stamps, Arc::clone(&read)));
        Ok(read)
    }

    /// Reads what is new or has changed.
    fn refresh(&self, home: &Path, shown: &Shown) {
        let before = self.current.load_full();
        let (mut files, mut broken, mut hosts) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut changed = before.files.len() != shown.certificates.len();
        for (name, certificate) in &shown.certificates {
            let [chain, key] = files_of(home, name, &certificate.from);
            let stamps = stamps_of(&chain, &key);
            let known = before.files.get(name);
            let read = match known {
                Some((seen, it)) if *seen == stamps => Ok(Arc::clone(it)),
                Some(_) | None => match before.broken.get(name) {
                    Some((seen, why)) if *seen == stamps => Err((why.clone(), false)),
                    Some(_) | None => {
                        read(&chain, &key).map(Arc::new).map_err(|error| (error.to_string(), true))
                    }
                },
            };
            let kept = match read {
                Ok(it) => {
                    if known.is_none_or(|(_, known)| !Arc::ptr_eq(known, &it)) {
                        log::info(format_args!("certificate {name} is shown"));
                        changed = true;
                    }
                    files.insert(name.clone(), (stamps, Arc::clone(&it)));
                    Some(it)
                }
                // What was read before is better than nothing.
                Err((why, is_new)) => {
                    if let (true, CertificateSource::Files { .. }) = (is_new, &certificate.from) {
                        log::error(format_args!("certificate {name} cannot be read: {why}"));
                    }
                    broken.insert(name.clone(), (stamps, why));
                    known.map(|(seen, it)| {
                        files.insert(name.clone(), (*seen, Arc::clone(it)));
                        Arc::clone(it)
                    })
                }
            };
            if let Some(kept) = kept {
                hosts.extend(certificate.hosts.iter().map(|it| (it.clone(), Arc::clone(&kept))));
            }
        }
        let same_hosts = hosts.keys().eq(before.hosts.0.keys());
        if !changed && same_hosts && broken == before.broken {
            return;
        }
        let hosts = Arc::new(Hosts(hosts));
        let config = (!hosts.0.is_empty()).then(|| server_config(&hosts)).transpose();
        let config = config.unwrap_or_else(|error| {
            log::error(format_args!("TLS cannot be spoken: {error}"));
            None
        });
        self.current.store(Arc::new(Current { files, broken, hosts, config }));
    }

    /// Forgets how TLS is spoken where files have changed, and what nobody asks for any more.
    fn refresh_upstreams(&self, wanted: &BTreeSet<UpstreamTls>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|tls, (stamps, known)| {
            let now = upstream_stamps(tls);
            if now != *stamps {
                match read_upstream(tls) {
                    Ok(read) => *known = Arc::new(read),
                    Err(error) => {
                        log::error(format_args!("TLS to {} stays as it was: {error}", tls.name));
                    }
                }
                *stamps = now;
            }
            wanted.contains(tls)
        });
    }
}

/// Keeps everything as the served table and the files say, for ever.
pub(crate) async fn keep(shared: Arc<Shared>) {
    loop {
        {
            let table = shared.table.load_full();
            shared.certificates.refresh(&shared.home, &table.source.shown);
            let pools = table.services.values().flat_map(|service| &service.pools);
            let wanted = pools.filter_map(|pool| pool.tls.clone()).collect();
            shared.certificates.refresh_upstreams(&wanted);
        }
        let _timeout = tokio::time::timeout(LOOK, shared.reshow.notified()).await;
    }
}

/// Where a certificate and its key are.
pub(crate) fn files_of(
    home: &Path,
    name: &CertificateName,
    from: &CertificateSource,
) -> [PathBuf; 2] {
    match from {
        CertificateSource::Files { chain, key } => [chain, key].map(PathBuf::from),
        CertificateSource::Acme => {
            let folder = home.join(layout::CERTIFICATES).join(name.as_str());
            ["chain.pem", "key.pem"].map(|file| folder.join(file))
        }
    }
}

/// Reads a chain and its key; they belong together.
pub(crate) fn read(chain: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let (chain, key) = read_pair(chain, key)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(io::Error::other)
}

/// The same out of texts of PEM.
pub(crate) fn parse(chain: &[u8], key: &[u8]) -> io::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>();
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(io::Error::other)
}

fn read_pair(
    chain: &Path,
    key: &Path,
) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let wrong = |what: &Path| {
        let what = what.display().to_string();
        move |error: pem::Error| io::Error::other(format!("{what}: {error}"))
    };
    let certificates = CertificateDer::pem_slice_iter(&read_file(chain)?).collect::<Result<_, _>>();
    let certificates: Vec<_> = certificates.map_err(wrong(chain))?;
    if certificates.is_empty() {
        let text = format!("{}: there is no certificate in it", chain.display());
        return Err(io::Error::other(text));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(wrong(key))?;
    Ok((certificates, key))
}

/// Reads a file that is not too large.
pub(crate) fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", file.display()));
    if std::fs::metadata(file).map_err(named)?.len() > FILE_BYTES_MAX {
        return Err(named(io::Error::other("it is too large")));
    }
    std::fs::read(file).map_err(named)
}

fn server_config(hosts: &Arc<Hosts>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Hosts>::clone(hosts);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn upstream_stamps(tls: &UpstreamTls) -> Stamps {
    let own = tls.own.as_ref();
    let stamp_of = |file: Option<&String>| file.and_then(|file| stamp(Path::new(file)));
    [stamp_of(Some(&tls.ca)), stamp_of(own.map(|it| &it.0)), stamp_of(own.map(|it| &it.1))]
}

fn read_upstream(tls: &UpstreamTls) -> io::Result<Upstream> {
    let name = ServerName::try_from(tls.name.clone()).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&read_file(Path::new(&tls.ca))?) {
        roots.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let config = match &tls.own {
        Some((chain, key)) => {
            let (chain, key) = read_pair(Path::new(chain), Path::new(key))?;
            config.with_client_auth_cert(chain, key).map_err(io::Error::other)?
        }
        None => config.with_no_client_auth(),
    };
    let mut multiplexed = config.clone();
    multiplexed.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Upstream { config: Arc::new(config), multiplexed: Arc::new(multiplexed), name })
}
