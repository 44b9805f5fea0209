//! One run of a receiver that is a program: the event on its standard input and in its environment.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use evenkeel_local::hook::{self, Hook, How};

use super::message::Message;

/// How long it may run. It only delays what itself is told.
const RUN_MAX: Duration = Duration::from_secs(30);

/// Runs it to its end, held by the command `holder`. The error is a fragment for people, with the
/// last line of its output.
pub(crate) fn run(
    holder: &[OsString],
    run: &[String],
    dir: &Path,
    message: &Message,
) -> Result<(), String> {
    let variables = message.variables().map(|(name, value)| (name.to_owned(), value));
    let hook = Hook {
        run: run.to_vec(),
        dir: dir.to_owned(),
        env: variables.into(),
        stdin: message.json(),
        timeout: RUN_MAX,
    };
    let program = run.first().map_or("", String::as_str);
    let ended = hook::run(holder, &hook, &|| true);
    let ended = ended.map_err(|error| format!("could not run {program}: {error}"))?;
    let said = ended.said();
    Err(match ended.how {
        How::Exited(0) => return Ok(()),
        How::Exited(status) => format!("it ended with exit status {status}{said}"),
        How::Signalled(signal) => format!("signal {signal} ended it{said}"),
        How::TookTooLong => format!("it did not end within {}s{said}", RUN_MAX.as_secs()),
        How::Unwanted => "it was given up".to_owned(),
    })
}
