//! The roles that run in the background, and how a process becomes the only one of its role.

mod claim;
mod discovery;
mod guard;
mod keeper;
mod start;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use evenkeel_kernel::layout;

pub(crate) use claim::{is_running, pid_of};
pub(crate) use start::{last_words, spawn_keeper, start};

use crate::cli::Role;
use crate::exit::Exit;
use crate::home;

/// The word that makes a process a shim.
const SHIM: &str = "shim";
/// The word that makes a process hold a command that control runs.
const HOLDER: &str = "holder";

/// Runs as a shim, or holds a command of control's, if that is what this process was started for.
pub(crate) fn small() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let what = args.next()?;
    if what == SHIM {
        return Some(evenkeel_local::shim(args.collect::<Vec<OsString>>()));
    }
    (what == HOLDER).then(|| evenkeel_local::hook::hold(&args.collect::<Vec<OsString>>()))
}

/// Runs one of the other roles until it ends.
pub(crate) fn run(role: &Role, home: &Path) -> anyhow::Result<Exit> {
    home::prepare(home)?;
    match role {
        Role::Keeper { detach, children } => {
            if *detach {
                // A process that leads a group already, as a terminal's job does, stays in it.
                rustix::process::setsid().ok();
            }
            keeper::run(home, children)?;
        }
        Role::Control => {
            let claim = claim::take(home, "control")?;
            guard::watch(home)?;
            exit_on_signal(home.join(layout::pid_file("control")))?;
            let own = own_program()?.into_os_string();
            let [shim, holder] = [SHIM, HOLDER].map(|word| vec![own.clone(), OsString::from(word)]);
            let home = home.to_owned();
            evenkeel_control::run(&evenkeel_control::Config { home, shim, holder })?;
            drop(claim);
        }
        Role::Edge { succeed } => {
            guard::watch(home)?;
            // As many threads as the machine has processors.
            let home = home.to_owned();
            let (succeed, about) = (*succeed, about()?);
            let config = evenkeel_edge::Config { home: home.clone(), threads: 0, succeed, about };
            evenkeel_edge::run(&config, |outlook| discovery::start(&home, outlook))?;
        }
    }
    Ok(Exit::Done)
}

/// The command that makes a process a shim of this program.
pub(crate) fn shim_command() -> anyhow::Result<Vec<String>> {
    let program = own_program()?.into_os_string().into_string();
    let program = program.map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))?;
    Ok(vec![program, SHIM.to_owned()])
}

/// What this process is, for [`layout::about_file`].
fn about() -> anyhow::Result<String> {
    let about = serde_json::json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "program": own_program()?,
    });
    Ok(format!("{about}\n"))
}

/// The path of this very program, also after the file was replaced by a newer one.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("could not find this program's own file")?;
    // Linux appends this to the name of a file that has been unlinked since.
    let text = path.to_string_lossy();
    match text.strip_suffix(" (deleted)") {
        Some(replaced) => Ok(replaced.into()),
        None => Ok(path),
    }
}

/// Control has nothing to put in order when it is asked to end: what it decided is committed.
fn exit_on_signal(pid_file: PathBuf) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ])
    .context("could not listen for signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            drop(std::fs::remove_file(&pid_file));
            drop(signal_hook::low_level::emulate_default_handler(signal));
        }
    });
    Ok(())
}
