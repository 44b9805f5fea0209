//! One run of a receiver that is a program: the event on its standard input and in its environment,
//! bounded in time and in what is kept of its output.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::message::Message;

/// How long it may run. It only delays what itself is told.
const RUN_MAX: Duration = Duration::from_secs(30);
/// What is kept of its output, for the log and for `evenkeel notify`.
const OUTPUT_MAX: usize = 512;
/// Variables of control's own environment that it is given. The others may hold secrets of whoever
/// started control.
const GIVEN: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Runs it to its end. The error is a fragment for people, with the beginning of its output.
pub(crate) fn run(run: &[String], dir: &Path, message: &Message) -> Result<(), String> {
    run_within(RUN_MAX, run, dir, message)
}

fn run_within(most: Duration, run: &[String], dir: &Path, message: &Message) -> Result<(), String> {
    let (program, arguments) = run.split_first().ok_or("there is no program")?;
    let could_not = |error: io::Error| format!("could not run {program}: {error}");
    let (mut output, writer) = io::pipe().map_err(could_not)?;
    let place = match program.contains('/') {
        true => dir.join(program),
        false => program.into(),
    };
    let mut command = Command::new(place);
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(GIVEN.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(message.variables())
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().map_err(could_not)?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn().map_err(could_not)?;
    // Our ends of what it writes to are closed with this.
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        // A message fits into the pipe, so this does not wait; who does not read it does without.
        drop(stdin.write_all(&message.json()));
    }
    let mut kept = Vec::new();
    let ended = follow(&child, &mut output, &mut kept, Instant::now() + most);
    // Whatever it started belongs to it.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        kill_process_group(group, Signal::KILL).ok();
    }
    let status = child.wait().map_err(could_not)?;
    let said = said(&kept);
    match (ended.map_err(could_not)?, status.code(), status.signal()) {
        (true, Some(0), _) => Ok(()),
        (false, ..) => Err(format!("it did not end within {}s{said}", most.as_secs())),
        (true, Some(code), _) => Err(format!("it ended with exit status {code}{said}")),
        (true, None, signal) => Err(format!("signal {} ended it{said}", signal.unwrap_or(0))),
    }
}

/// Reads what it says until it ends or the time is over. Returns whether it ended.
fn follow(
    child: &Child,
    output: &mut PipeReader,
    kept: &mut Vec<u8>,
    until: Instant,
) -> io::Result<bool> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut open = true;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut both = [PollFd::new(&process, PollFlags::IN), PollFd::new(output, PollFlags::IN)];
        let watched = if open { &mut both[..] } else { &mut both[..1] };
        if poll(watched, Some(&wait))? == 0 {
            return Ok(false);
        }
        let [ended, spoke] = both.map(|it| !it.revents().is_empty());
        if open && spoke {
            let mut piece = [0; 4096];
            let length = output.read(&mut piece)?;
            open = length > 0;
            let room = OUTPUT_MAX.saturating_sub(kept.len());
            kept.extend(piece.iter().take(length.min(room)));
        } else if ended {
            return Ok(true);
        }
    }
}

/// The beginning of its output, on one line.
fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().map(clean).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::test(&"shop".parse().unwrap(), "ann", 0)
    }

    fn sh(line: &str, most: Duration) -> (Result<(), String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = ["sh", "-c", line].map(str::to_owned);
        (run_within(most, &run, dir.path(), &message()), dir)
    }

    #[test]
    fn it_reads_the_event_and_finds_it_in_its_environment() {
        let line = "cat > event; echo $EVENKEEL_EVENT $EVENKEEL_STACK $CARGO_MANIFEST_DIR > seen";
        let (result, dir) = sh(line, RUN_MAX);
        assert_eq!(result, Ok(()));
        assert_eq!(std::fs::read(dir.path().join("event")).unwrap(), message().json());
        let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
        assert_eq!(seen, "notify.test shop\n");
    }

    #[test]
    fn how_it_failed_is_said_with_the_beginning_of_its_output() {
        let (result, _) = sh("echo no\necho such room >&2; exit 3", RUN_MAX);
        assert_eq!(result.unwrap_err(), "it ended with exit status 3: no such room");
        let (result, _) = sh("yes | head -c 100000; kill -9 $$", RUN_MAX);
        let error = result.unwrap_err();
        assert!(error.starts_with("signal 9 ended it: y y") && error.len() < 600, "{error}");
        let (run, none) = (["./no".to_owned()], tempfile::tempdir().unwrap());
        let error = run_within(RUN_MAX, &run, none.path(), &message()).unwrap_err();
        assert!(error.starts_with("could not run ./no: No such file"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_it_started() {
        let (result, dir) = sh("sleep 1000 & echo $! > pid; wait", Duration::from_millis(500));
        assert_eq!(result.unwrap_err(), "it did not end within 0s");
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let deadline = Instant::now() + Duration::from_secs(20);
        let runs = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        while runs() {
            assert!(Instant::now() < deadline, "{pid} survived");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_reads_nothing_and_leaves_its_output_open_is_not_waited_for() {
        let began = Instant::now();
        let (result, _) = sh("exec <&-; setsid sleep 5 & exit 0", Duration::from_secs(4));
        assert_eq!(result, Ok(()));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
