//! One run of a receiver that is a program: the event on its standard input and in its environment,
//! bounded in time and in what is kept of its output.
//!
//! A process of ours stands between control and the program, holding it on a leash: when control
//! dies, or the time is over, it ends the program with everything that this has started.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use evenkeel_local::hook;

use super::message::Message;

/// How long it may run. It only delays what itself is told.
const RUN_MAX: Duration = Duration::from_secs(30);
/// What is kept of its output, for the log and for `evenkeel notify`.
const OUTPUT_MAX: usize = 512;
/// The longest reason that is taken from the one who holds it: its output, and words around it.
const REASON_MAX: u64 = 4 << 10;

/// Runs it to its end, held by the command `holder`. The error is a fragment for people, with the
/// beginning of its output.
pub(crate) fn run(
    holder: &[OsString],
    run: &[String],
    dir: &Path,
    message: &Message,
) -> Result<(), String> {
    let could_not = |error: io::Error| format!("could not run it: {error}");
    let (program, first) = holder.split_first().ok_or("nobody can run it")?;
    let json = message.json();
    let mut child = Command::new(program)
        .args(first)
        .arg(json.len().to_string())
        .arg(dir)
        .args(run)
        .env_clear()
        .envs(hook::given())
        .envs(message.variables())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(could_not)?;
    // The leash: open until the end.
    let leash = child.stdin.take();
    // A message fits into the pipe, so this does not wait.
    let handed = leash.as_ref().map(|mut leash| leash.write_all(&json));
    let mut reason = String::new();
    let said = child.stdout.take().map(|it| it.take(REASON_MAX).read_to_string(&mut reason));
    let status = child.wait().map_err(could_not)?;
    drop(leash);
    handed.transpose().and(said.transpose()).map_err(could_not)?;
    match status.success() {
        true => Ok(()),
        false if reason.is_empty() => Err(format!("what runs it ended with {status}")),
        false => Err(reason),
    }
}

/// Holds a program on its leash: the process that control starts for it. Takes the message's
/// length, the folder, the program and its arguments; says on standard output why it failed.
pub fn hold(args: &[OsString]) -> ExitCode {
    let Err(reason) = held(args) else { return ExitCode::SUCCESS };
    // Control may be gone.
    io::stdout().write_all(reason.as_bytes()).ok();
    ExitCode::FAILURE
}

fn held(args: &[OsString]) -> Result<(), String> {
    let [length, dir, run @ ..] = args else { return Err("there is nothing to run".to_owned()) };
    let length = length.to_str().and_then(|it| it.parse().ok()).ok_or("there is no message")?;
    let mut message = vec![0; length];
    let stdin = io::stdin();
    stdin.lock().read_exact(&mut message).map_err(|_gone| "there is no message")?;
    run_within(RUN_MAX, run, Path::new(dir), &message, stdin.as_fd())
}

fn run_within(
    most: Duration,
    run: &[OsString],
    dir: &Path,
    message: &[u8],
    leash: BorrowedFd<'_>,
) -> Result<(), String> {
    let (program, arguments) = run.split_first().ok_or("there is no program")?;
    let could_not = |error: io::Error| format!("could not run {}: {error}", program.display());
    let (mut output, writer) = io::pipe().map_err(could_not)?;
    let mut command = Command::new(place(program, dir));
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().map_err(could_not)?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn().map_err(could_not)?;
    // Our ends of what it writes to are closed with this.
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        // A message fits into the pipe, so this does not wait; who does not read it does without.
        drop(stdin.write_all(message));
    }
    let mut kept = Vec::new();
    let ended = follow(&child, &mut output, &mut kept, leash, Instant::now() + most);
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

/// A program with a `/` in it is seen from its folder; any other is looked for.
fn place(program: &OsStr, dir: &Path) -> OsString {
    match program.as_encoded_bytes().contains(&b'/') {
        true => dir.join(program).into_os_string(),
        false => program.to_owned(),
    }
}

/// Reads what it says until it ends, the time is over, or nobody holds the leash any more. Returns
/// whether it ended.
fn follow(
    child: &Child,
    output: &mut PipeReader,
    kept: &mut Vec<u8>,
    leash: BorrowedFd<'_>,
    until: Instant,
) -> io::Result<bool> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut open = true;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut all = [watch(process.as_fd()), watch(leash), watch(output.as_fd())];
        let watched = if open { &mut all[..] } else { &mut all[..2] };
        let nothing = poll(watched, Some(&wait))? == 0;
        let [ended, let_go, spoke] = all.map(|it| !it.revents().is_empty());
        if nothing || let_go {
            return Ok(false);
        }
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

    fn sh(line: &str, most: Duration) -> (Result<(), String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = ["sh", "-c", line].map(OsString::from);
        let (leash, held) = io::pipe().unwrap();
        let result = run_within(most, &run, dir.path(), b"the event", leash.as_fd());
        drop(held);
        (result, dir)
    }

    #[test]
    fn it_reads_the_event_in_its_folder() {
        let (result, dir) = sh("cat > event", RUN_MAX);
        assert_eq!(result, Ok(()));
        assert_eq!(std::fs::read(dir.path().join("event")).unwrap(), b"the event");
    }

    #[test]
    fn how_it_failed_is_said_with_the_beginning_of_its_output() {
        let (result, _) = sh("echo no\necho such room >&2; exit 3", RUN_MAX);
        assert_eq!(result.unwrap_err(), "it ended with exit status 3: no such room");
        let (result, _) = sh("yes | head -c 100000; kill -9 $$", RUN_MAX);
        let error = result.unwrap_err();
        assert!(error.starts_with("signal 9 ended it: y y") && error.len() < 600, "{error}");
        let (leash, _held) = io::pipe().unwrap();
        let error = run_within(RUN_MAX, &["./no".into()], Path::new("/"), b"", leash.as_fd());
        let error = error.unwrap_err();
        assert!(error.starts_with("could not run ./no: No such file"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_it_started() {
        let (result, dir) = sh("sleep 1000 & echo $! > pid; wait", Duration::from_millis(500));
        assert_eq!(result.unwrap_err(), "it did not end within 0s");
        until_gone(dir.path());
    }

    #[test]
    fn when_control_is_gone_so_is_what_it_ran() {
        let dir = tempfile::tempdir().unwrap();
        let (leash, held) = io::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let run = ["sh", "-c", "sleep 1000 & echo $! > pid; wait"].map(OsString::from);
                run_within(RUN_MAX, &run, dir.path(), b"", leash.as_fd()).unwrap_err();
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            while std::fs::read_to_string(dir.path().join("pid")).unwrap_or_default().is_empty() {
                assert!(Instant::now() < deadline, "it did not start");
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(held);
            until_gone(dir.path());
        });
    }

    /// Waits until the process that has written down itself is gone.
    fn until_gone(dir: &Path) {
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
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
