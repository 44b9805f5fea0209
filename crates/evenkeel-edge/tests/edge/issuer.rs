//! Those who issue certificates: one within the test, and Pebble, a real server of ACME, with a
//! name server that knows every name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use evenkeel_kernel::model::Acme;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;

use crate::rig::until;

/// Who issues the certificates of a test.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes what has its issuer's name for self-signed.
        params.distinguished_name.push(DnType::CommonName, "issuer");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for these hosts and its key, as PEM.
    pub(crate) fn issue(&self, hosts: &[&str]) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

/// Says that a test cannot run here, and why.
fn skip(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
        let file = File::options().append(true).create(true).open(file);
        file.unwrap().write_all(format!("{why}\n").as_bytes()).unwrap();
    }
}

/// Whether all of these programs are there; otherwise says that the test is skipped.
pub(crate) fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|it| it.join(name).is_file());
    let missing = programs.iter().find(|it| !is_there(it));
    if let Some(missing) = missing {
        skip(&format!("{missing} is not installed"));
    }
    missing.is_none()
}

/// A running Pebble.
pub(crate) struct Pebble {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    management: u16,
}

/// Where Pebble asks, and for how long its certificates are good.
#[derive(Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) http: u16,
    pub(crate) tls: u16,
    pub(crate) seconds: u32,
    /// How many in a hundred requests it refuses the first time, as it may at any time.
    pub(crate) refused: u8,
}

impl Pebble {
    pub(crate) fn start(asks: Asks) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::new();
        let (chain, key) = issuer.issue(&["127.0.0.1"]);
        let file = |name: &str| folder.path().join(name);
        fs::write(file("root.pem"), issuer.pem()).unwrap();
        fs::write(file("chain.pem"), chain).unwrap();
        fs::write(file("key.pem"), key).unwrap();
        let dns = serve_names();
        // A port that was free may be taken by another test before Pebble has it.
        for _ in 0..5 {
            let [port, management] = free_ports();
            let config = format!(
                r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}",
                "managementListenAddress": "127.0.0.1:{management}",
                "certificate": {:?}, "privateKey": {:?},
                "httpPort": {}, "tlsPort": {}, "certificateValidityPeriod": {}}}}}"#,
                file("chain.pem"),
                file("key.pem"),
                asks.http,
                asks.tls,
                asks.seconds
            );
            fs::write(file("config.json"), config).unwrap();
            let log = File::create(file("log")).unwrap();
            let mut child = Command::new("pebble")
                .args(["-config".as_ref(), file("config.json").as_os_str()])
                .args([OsStr::new("-dnsserver"), format!("127.0.0.1:{dns}").as_ref()])
                .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")])
                .env("PEBBLE_WFE_NONCEREJECT", asks.refused.to_string())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            until("Pebble listens, or has ended", || {
                child.try_wait().unwrap().is_some()
                    || [port, management]
                        .iter()
                        .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
            });
            if child.try_wait().unwrap().is_none() {
                return Self { child, folder, port, management };
            }
        }
        panic!("Pebble does not start: {}", fs::read_to_string(file("log")).unwrap());
    }

    /// As the stack file names it.
    pub(crate) fn acme(&self) -> Acme {
        Acme {
            directory: format!("https://127.0.0.1:{}/dir", self.port),
            contact: Some("ops@example.com".to_owned()),
            root: Some(self.file("root.pem").to_str().unwrap().to_owned()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap()
    }

    /// The root of what it issues, as a file of PEM. It is another each time it starts.
    pub(crate) fn root(&self) -> PathBuf {
        let out = self.file("issued.pem");
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let got = curl(&self.file("root.pem"), &["-o", out.to_str().unwrap(), &url]);
        assert!(got.is_ok(), "{got:?}");
        out
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// What curl gets, trusting only this root.
pub(crate) fn curl(root: &Path, args: &[&str]) -> Result<String, String> {
    let out = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--noproxy", "*", "--cacert", root.to_str().unwrap()])
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

pub(crate) fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|it| it.local_addr().unwrap().port())
}

/// A name server by which every name is at 127.0.0.1; its port. Ends with the test's process.
fn serve_names() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            let asked = &bytes[..length];
            // The name ends with an empty label; its type and class are four bytes more.
            let Some(end) = asked.iter().skip(12).position(|it| *it == 0).map(|it| it + 17) else {
                continue;
            };
            let Some(question) = asked.get(12..end) else { continue };
            let is_a = question.ends_with(&[0, 1, 0, 1]);
            let mut answer = asked[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(question);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            // Who does not wait any more has given up.
            let _gone = socket.send_to(&answer, peer);
        }
    });
    port
}
