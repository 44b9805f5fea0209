//! The proxies beside which the edge is measured, each told the same in its own words: where to
//! listen, what leads where, and whether to try again. One worker each, on processor 0.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod traefik;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::house::free_addr;
use super::process::{find, on_processor};

/// The host of the certificate, and of every request.
pub(super) const HOST: &str = "bench.test";
/// How long a proxy may take to end once it is asked to.
const END_WAIT: Duration = Duration::from_secs(2);

/// A proxy of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Nginx,
    Haproxy,
    /// haproxy, whose servers are changed in place through its socket.
    HaproxySocket,
    Envoy,
    Caddy,
    Traefik,
}

/// What instances are spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Grpc,
    WebSocket,
}

/// What begins with a path, and where it leads. The path `/` is the last one.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) speaks: Speaks,
    pub(super) to: Vec<SocketAddr>,
    /// Where else it could lead: for who must know before it is told to.
    pub(super) or: Vec<SocketAddr>,
}

/// Where a proxy listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doors {
    pub(super) plain: SocketAddr,
    pub(super) h2c: SocketAddr,
    pub(super) tls: SocketAddr,
    /// Where it takes orders, if it does.
    pub(super) admin: SocketAddr,
}

impl Doors {
    pub(super) fn free() -> anyhow::Result<Self> {
        Ok(Self { plain: free_addr()?, h2c: free_addr()?, tls: free_addr()?, admin: free_addr()? })
    }
}

/// A certificate for [`HOST`]: its chain, its key, and both in one file.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    both: PathBuf,
}

impl Certificate {
    /// Makes one by openssl.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let [chain, key, both] =
            ["bench.pem", "bench.key", "both.pem"].map(|name| folder.join(name));
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "30", "-subj", &format!("/CN={HOST}")])
            .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
            .arg("-out")
            .arg(&chain)
            .arg("-keyout")
            .arg(&key)
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("openssl made no certificate");
        }
        std::fs::write(&both, std::fs::read_to_string(&chain)? + &std::fs::read_to_string(&key)?)?;
        Ok(Self { chain, key, both })
    }
}

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) doors: Doors,
    pub(super) certificate: Certificate,
    pub(super) routes: Vec<Route>,
    /// Whether instances are probed and requests tried again, as its documentation proposes.
    pub(super) retries: bool,
}

impl Setup {
    /// Leads a route to one instance from now on.
    pub(super) fn lead(&mut self, name: &str, to: SocketAddr) {
        for route in self.routes.iter_mut().filter(|route| route.name == name) {
            route.or.retain(|addr| *addr != to);
            route.or.append(&mut route.to);
            route.to = vec![to];
        }
    }
}

/// A file of a configuration, by its name, and its text.
type Files = Vec<(String, String)>;

impl Peer {
    pub(super) const ALL: [Self; 5] =
        [Self::Nginx, Self::Haproxy, Self::Envoy, Self::Caddy, Self::Traefik];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy | Self::HaproxySocket => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
        }
    }

    /// How it takes another configuration while it runs.
    pub(super) fn way_to_change(self) -> &'static str {
        match self {
            Self::Nginx => "-s reload",
            Self::Haproxy => "USR2 to the master",
            Self::HaproxySocket => "socket, set server",
            Self::Envoy => "EDS by a file",
            Self::Caddy => "POST /load",
            Self::Traefik => "file provider",
        }
    }

    /// Its version, or nothing if it is not installed.
    pub(super) fn version(self) -> Option<String> {
        let ask = match self {
            Self::Nginx | Self::Haproxy | Self::HaproxySocket => "-v",
            Self::Envoy => "--version",
            Self::Caddy | Self::Traefik => "version",
        };
        let output = Command::new(find(self.name())?).arg(ask).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        version_in(&String::from_utf8_lossy(&text)).map(str::to_owned)
    }

    fn files(self, setup: &Setup, folder: &Path) -> anyhow::Result<Files> {
        match self {
            Self::Nginx => nginx::files(setup, folder),
            Self::Haproxy => haproxy::files(setup, folder, false),
            Self::HaproxySocket => haproxy::files(setup, folder, true),
            Self::Envoy => Ok(envoy::files(setup, folder)),
            Self::Caddy => caddy::files(setup),
            Self::Traefik => traefik::files(setup),
        }
    }

    fn arguments(self, setup: &Setup, folder: &Path) -> Vec<String> {
        match self {
            Self::Nginx => nginx::arguments(folder),
            Self::Haproxy | Self::HaproxySocket => haproxy::arguments(),
            Self::Envoy => envoy::arguments(),
            Self::Caddy => caddy::arguments(),
            Self::Traefik => traefik::arguments(setup),
        }
    }

    /// Starts it in `folder`, if it is installed, and waits until it listens.
    pub(super) fn start(self, folder: &Path, setup: &Setup) -> anyhow::Result<Option<Running>> {
        let Some(program) = find(self.name()) else { return Ok(None) };
        write(folder, self.files(setup, folder)?)?;
        let log = folder.join(format!("{}.log", self.name()));
        let output = File::create(&log)?;
        let child = on_processor(0, &program)
            .args(self.arguments(setup, folder))
            .current_dir(folder)
            .env("GOMAXPROCS", "1")
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let running = Running { peer: self, child, program, folder: folder.to_owned() };
        for addr in [setup.doors.plain, setup.doors.h2c, setup.doors.tls] {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            super::nginx::await_listening(addr)
                .with_context(|| format!("{} says: {}", self.name(), said()))?;
        }
        Ok(Some(running))
    }
}

/// A proxy that runs, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    peer: Peer,
    child: Child,
    program: PathBuf,
    folder: PathBuf,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something else from now on, the way its documentation says.
    pub(super) fn change(&self, setup: &Setup) -> anyhow::Result<()> {
        let files = self.peer.files(setup, &self.folder)?;
        match self.peer {
            Peer::Nginx => {
                write(&self.folder, files)?;
                nginx::reload(&self.program, &self.folder)
            }
            Peer::Haproxy => {
                write(&self.folder, files)?;
                signal(self.pid(), "-USR2")
            }
            Peer::HaproxySocket => haproxy::set_servers(setup, &self.folder),
            Peer::Caddy => caddy::load(setup.doors.admin, &files),
            // They watch their files.
            Peer::Envoy | Peer::Traefik => write(&self.folder, files),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // TERM, so that a master ends its workers.
        drop(signal(self.pid(), "-TERM"));
        let by = Instant::now() + END_WAIT;
        while Instant::now() < by && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says which versions are measured, and which of the proxies are not there.
pub(super) fn say_versions(program: &Path) {
    let said = Command::new(program).arg("--version").output();
    let said = said.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    let of = |peer: Peer| match peer.version() {
        Some(version) => format!("{} {version}", peer.name()),
        None => format!("{} is not installed and left out", peer.name()),
    };
    println!("  {}; {}", said.unwrap_or_default(), Peer::ALL.map(of).join("; "));
}

/// Writes files each as a whole, so that who watches them never reads the half of one.
fn write(folder: &Path, files: Files) -> anyhow::Result<()> {
    for (name, text) in files {
        let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
        // A file that says what it said is left alone: Envoy reads each that is moved.
        if std::fs::read_to_string(&path).is_ok_and(|it| it == text) {
            continue;
        }
        std::fs::write(&new, text)?;
        std::fs::rename(new, path)?;
    }
    Ok(())
}

/// Sends a signal to a process.
pub(super) fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status()?;
    if !status.success() {
        bail!("could not send {signal} to {pid}");
    }
    Ok(())
}

/// The first thing in a text that looks like a version: `2.6.12`.
fn version_in(text: &str) -> Option<&str> {
    text.split([' ', '/', '\n', '\t']).find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let version = word.get(..end)?;
        (version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.'))
            .then_some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_each_proxy_says() {
        let said = [
            "nginx version: nginx/1.22.1\n",
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
            "/venv/bin/envoy  version: 9e5580933739775e/1.40.0/Clean/RELEASE/BoringSSL",
            "v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=",
            "Version:      3.7.15\nCodename:     langres",
            "no version",
        ];
        let found = said.map(version_in);
        let wanted = ["1.22.1", "2.6.12", "1.40.0", "2.11.7", "3.7.15"].map(Some);
        assert_eq!(found[..5], wanted);
        assert_eq!(found[5], None);
    }
}
