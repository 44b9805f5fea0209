//! The machine that the tests run on: its processes, its free ports, what is installed; and how to
//! wait for something.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, LOOK, look).unwrap_or_else(|| panic!("it never came true: {what}"))
}

/// The same with other patience, and an end without a finding.
pub(crate) fn within<T>(
    most: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() > most {
            return None;
        }
        thread::sleep(pause);
    }
}

/// Whether a process runs: it exists and has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself just now.
    kill_process(pid, signal).ok();
}

/// Kills a process, and waits until it is gone.
#[track_caller]
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    until("the killed one is gone", || (!runs(pid)).then_some(()));
}

/// A port that is free now, outside of what the system and Evenkeel give away by themselves.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 100).unwrap() * 90;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 900;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Says that a test cannot run here, and why.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("EVENKEEL_TESTS_SKIPPED") {
        let file = fs::File::options().append(true).create(true).open(file);
        file.unwrap().write_all(format!("{why}\n").as_bytes()).unwrap();
    }
}

/// Where a program lies, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    programs(name).next()
}

/// Every program of this name, those that people find first; what only the tests need comes last.
fn programs(name: &str) -> impl Iterator<Item = PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    let venv = cache.map(|cache| cache.join("evenkeel-ci/venv/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).chain(venv).collect();
    places.into_iter().map(move |place| place.join(name)).filter(|path| path.is_file())
}

/// A Python that can import these modules.
pub(crate) fn python_with(modules: &str) -> Option<PathBuf> {
    programs("python3").find(|python| prints(python, modules, "").is_some())
}

/// The folder from which such a Python imports a package, for `PYTHONPATH`.
pub(crate) fn python_path(package: &str) -> Option<PathBuf> {
    let print = format!("print({package}.__path__[0])");
    let path = programs("python3").find_map(|python| prints(&python, package, &print))?;
    Path::new(path.trim()).parent().map(Path::to_owned)
}

/// What a Python prints that imports these modules; none if it cannot.
fn prints(python: &Path, modules: &str, line: &str) -> Option<String> {
    let import = match modules {
        "" => String::new(),
        modules => format!("import {modules}; "),
    };
    let ran = Command::new(python).args(["-c", &format!("{import}{line}")]).output().ok()?;
    ran.status.success().then(|| String::from_utf8(ran.stdout).ok()).flatten()
}
