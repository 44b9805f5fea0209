//! Hooks, held by a process of their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_local::hook::{self, Ended, Hook, How};

const PATIENCE: Duration = Duration::from_secs(20);

fn hook(script: &str, timeout: Duration) -> Hook {
    Hook {
        run: ["sh", "-c", script].map(str::to_owned).to_vec(),
        dir: "/".into(),
        env: BTreeMap::from([("WORD".to_owned(), "spring".to_owned())]),
        stdin: b"from control".to_vec(),
        timeout,
    }
}

fn holder() -> [OsString; 2] {
    [std::env::current_exe().unwrap().into(), "hold".into()]
}

fn run(hook: &Hook) -> Ended {
    hook::run(&holder(), hook, &|| true).unwrap()
}

/// Waits until the process that has written down itself is gone.
fn until_gone(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    let runs = || {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    let deadline = Instant::now() + PATIENCE;
    while runs() {
        assert!(Instant::now() < deadline, "{pid} survived");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn fed_heard_and_says_how_it_ended() {
    let ended = run(&hook("cat; echo \" and $WORD\" >&2; exit 7", PATIENCE));
    assert_eq!(ended.how, How::Exited(7));
    assert_eq!(ended.output, "from control and spring\n");
    assert_eq!(run(&hook("kill -USR1 $$", PATIENCE)).how, How::Signalled(10));
    let nowhere = Hook { run: vec!["./nowhere".to_owned()], ..hook("", PATIENCE) };
    let error = hook::run(&holder(), &nowhere, &|| true).unwrap_err();
    assert!(error.to_string().starts_with("No such file"), "{error}");
    // More than a pipe holds, to one that reads none of it.
    let much = Hook { stdin: vec![b'x'; 1 << 20], ..hook("exec <&-; exit 3", PATIENCE) };
    assert_eq!(run(&much).how, How::Exited(3));
}

pub(crate) fn sees_nothing_of_controls_own_environment() {
    assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
    let ended = run(&hook("env", PATIENCE));
    let names = ended.output.lines().filter_map(|line| Some(line.split_once('=')?.0));
    // A shell adds some of these by itself.
    let known = ["PATH", "HOME", "LANG", "TZ", "WORD", "PWD", "SHLVL", "_", "OLDPWD"];
    assert_eq!(names.filter(|name| !known.contains(name)).collect::<Vec<_>>(), [""; 0]);
}

pub(crate) fn too_long_or_unwanted_it_goes_with_all_it_started() {
    let script = "sleep 1000 & echo $!; wait";
    let ended = run(&hook(script, Duration::from_millis(500)));
    assert_eq!(ended.how, How::TookTooLong);
    until_gone(&ended.output);

    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let started = || std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
    let unwanted = Hook { dir: dir.path().into(), ..hook("echo $$ > pid; exec yes", PATIENCE) };
    let ended = hook::run(&holder(), &unwanted, &|| !started()).unwrap();
    assert_eq!(ended.how, How::Unwanted);
    assert!(ended.output.len() <= 16 << 10, "a flood is cut");
    until_gone(&std::fs::read_to_string(&pid).unwrap());
}

pub(crate) fn what_it_leaves_open_is_not_waited_for() {
    let began = Instant::now();
    let ended = run(&hook("setsid sleep 5 & exit 0", PATIENCE));
    assert_eq!(ended.how, How::Exited(0));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Starts a holder as control does, with so many bytes to come.
fn hold(script: &str, feed: &str, dir: &Path) -> Child {
    let [own, hold] = holder();
    let command = Command::new(own)
        .arg(hold)
        .args([OsString::from(feed), "60000".into(), dir.into()])
        .args(["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    command.unwrap()
}

/// Whoever dies lets go of the leash, which is the holder's standard input.
pub(crate) fn when_control_dies_so_does_what_it_ran() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = hold("sleep 1000 & echo $! > pid; wait", "0", dir.path());
    let pid = until_written(&dir.path().join("pid"));
    drop(held.stdin.take());
    held.wait().unwrap();
    until_gone(&pid);
}

pub(crate) fn when_its_holder_is_killed_it_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = hold("echo $$ > pid; exec sleep 1000", "0", dir.path());
    let pid = until_written(&dir.path().join("pid"));
    held.kill().unwrap();
    held.wait().unwrap();
    until_gone(&pid);
}

pub(crate) fn half_a_message_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = hold("touch ran", "8", dir.path());
    held.stdin.take().unwrap().write_all(b"half").unwrap();
    let report = held.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&report), "unwanted\n");
    assert!(!dir.path().join("ran").exists());
}

fn until_written(path: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text;
        }
        assert!(Instant::now() < deadline, "it did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}
