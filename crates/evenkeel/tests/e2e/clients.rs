//! Clients that nobody here wrote, each driven by a small script that tells what it meets.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::house::House;
use crate::machine::{LOOK, PATIENCE, python_with, skip, until, within};

/// What every script in Python uses.
const TALLY: &str = include_str!("programs/tally.py");

/// A script, and the Python package that its client comes from.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    /// What it imports beside Python's own; none is named `""`.
    pub(crate) needs: &'static str,
}

pub(crate) const CURL: Script = script("curl_client", include_str!("programs/curl_client.py"), "");
pub(crate) const BROWSER: Script =
    script("browser_client", include_str!("programs/browser_client.py"), "");
pub(crate) const EVENTS: Script =
    script("events_client", include_str!("programs/events_client.py"), "httpx");
pub(crate) const GRPC: Script =
    script("grpc_client", include_str!("programs/grpc_client.py"), "grpc");
pub(crate) const TCP: Script = script("tcp_client", include_str!("programs/tcp_client.py"), "");
pub(crate) const PROXIED: Script =
    script("proxied_client", include_str!("programs/proxied_client.py"), "");
pub(crate) const CONSUL: Script =
    script("consul_client", include_str!("programs/consul_client.py"), "consul");
pub(crate) const PROMETHEUS: Script =
    script("prometheus_client", include_str!("programs/prometheus_client.py"), "");
pub(crate) const WEB_SOCKET: Script = script(
    "web_socket_client",
    include_str!("programs/web_socket_client.py"),
    "websockets.asyncio.client",
);

const fn script(name: &'static str, source: &'static str, needs: &'static str) -> Script {
    Script { name, source, needs }
}

impl Script {
    /// The Python that can run it; if there is none, that is said.
    pub(crate) fn python(&self) -> Option<PathBuf> {
        let python = python_with(self.needs);
        if python.is_none() {
            let Self { name, needs, .. } = self;
            skip(&format!("{name}: no python3 here can import {needs} (from PyPI)"));
        }
        python
    }

    /// Starts it, if it can run here.
    pub(crate) fn start(&self, house: &House, args: &[&str]) -> Option<Client> {
        self.start_with(house, args, &[])
    }

    /// The same with something in its environment.
    pub(crate) fn start_with(
        &self,
        house: &House,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Option<Client> {
        let python = self.python()?;
        house.write("tally.py", TALLY);
        let file = format!("{}.py", self.name);
        house.write(&file, self.source);
        let mut child = Command::new(python)
            .arg(file)
            .args(args)
            .current_dir(house.folder())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(env.iter().copied())
            // It ends when this does.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let (heard, lines) = (Arc::clone(&told), BufReader::new(child.stdout.take().unwrap()));
        let ear = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *heard.lock().unwrap() =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        });
        Some(Client { name: self.name, child, told, ear: Some(ear) })
    }
}

/// What a client has met so far.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Told {
    /// Right answers by kind, and by version.
    answers: BTreeMap<String, BTreeMap<String, u64>>,
    failed: u64,
    failures: Vec<String>,
    /// What was ended from outside: its kind, its version, and the time in seconds since 1970.
    cuts: Vec<(String, String, f64)>,
    done: bool,
}

/// A client that runs.
#[derive(Debug)]
pub(crate) struct Client {
    name: &'static str,
    child: Child,
    told: Arc<Mutex<Told>>,
    ear: Option<JoinHandle<()>>,
}

impl Client {
    fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// What it has met so far, in a line.
    pub(crate) fn summary(&self) -> String {
        let told = self.told();
        let count = |by: &BTreeMap<String, u64>| by.values().sum::<u64>();
        let kinds = told.answers.iter().map(|(kind, by)| format!("{kind} {}", count(by)));
        format!("{}; {} failed", kinds.collect::<Vec<_>>().join(", "), told.failed)
    }

    /// Waits until it has been answered by this version, in each of its ways so many times more.
    #[track_caller]
    pub(crate) fn until_more(&self, version: &str, times: u64) {
        let before = self.told();
        until(&format!("{} meets {version}: {before:?}", self.name), || {
            let now = self.told();
            let count = |told: &Told, kind: &str| {
                told.answers.get(kind).and_then(|by| by.get(version)).copied().unwrap_or(0)
            };
            // What lives long stays with whom it has found.
            let mut kinds = now.answers.keys().filter(|kind| !kind.starts_with("long"));
            let more = |kind: &String| count(&now, kind) >= count(&before, kind) + times;
            (!now.answers.is_empty() && kinds.all(more)).then_some(())
        });
    }

    /// Ends it. Nothing may have failed, and nothing that lives long was cut before its time:
    /// `from` says for each version when that came, if ever.
    #[track_caller]
    pub(crate) fn ends_unharmed(mut self, from: &BTreeMap<String, SystemTime>) -> Told {
        drop(self.child.stdin.take());
        let ended = within(PATIENCE, LOOK, || self.child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{}: {ended:?}", self.name);
        self.ear.take().unwrap().join().unwrap();
        let told = self.told();
        println!("{}: {told:?}", self.name);
        assert!(told.done && told.failed == 0, "{}: {:#?}", self.name, told.failures);
        for (kind, version, at) in &told.cuts {
            let at = UNIX_EPOCH + Duration::from_secs_f64(*at);
            let allowed = from.get(version).is_some_and(|from| at >= *from);
            assert!(allowed, "a {kind} with {version} was cut at {at:?}; allowed: {from:?}");
        }
        told
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What it started ends with its standard input.
        drop(self.child.stdin.take());
        let ended = within(PATIENCE, LOOK, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if thread::panicking() {
            eprintln!("{}: {:?}", self.name, self.told());
        }
    }
}
