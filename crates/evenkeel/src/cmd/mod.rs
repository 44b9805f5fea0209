//! One file per command.

mod apply;
mod demo;
mod doctor;
mod down;
mod history;
mod init;
mod logs;
mod plan;
mod reference;
mod restart;
mod scale;
mod status;
mod steer;
mod up;
mod why;

use std::path::Path;
use std::time::Duration;

use evenkeel_control::api::types::Answer;
use evenkeel_control::client::Client;

use crate::cli::{Cli, Command, WaitFor};
use crate::exit::Exit;
use crate::{follow, home, role, term};

/// How long a command waits for a control that its keeper is restarting.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// `$EVENKEEL_HOME`.
    pub(crate) home: &'a Path,
    /// The way to control.
    pub(crate) client: Client,
    /// JSON is wanted.
    pub(crate) json: bool,
}

/// Runs the command that was typed.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Exit> {
    let given = cli.home.or_else(|| std::env::var_os("EVENKEEL_HOME").map(Into::into));
    match &cli.command {
        Command::Init(args) => return init::run(args, cli.json),
        Command::Reference(args) => return Ok(reference::run(args)),
        Command::Openapi => {
            term::line(&evenkeel_control::api::openapi());
            return Ok(Exit::Done);
        }
        Command::Example(args) => return demo::example(&args.name),
        Command::Demo(args) => return wait_for(demo::run(args, cli.json)),
        _ => {}
    }
    let home = home::find(given.as_deref())?;
    if let Command::Role(role) = &cli.command {
        return role::run(role, &home);
    }
    let patience = if role::is_running(&home, "keeper") { RESTART_MAX } else { Duration::ZERO };
    let client = Client::new(&home).patient(patience);
    let context = Context { home: &home, client, json: cli.json };
    wait_for(dispatch(&context, cli.command))
}

async fn dispatch(context: &Context<'_>, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up(args) => up::run(context, &args).await,
        Command::Down(args) => down::run(context, &args).await,
        Command::Plan(args) => plan::run(context, &args).await,
        Command::Apply(args) => apply::run(context, &args).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Why => why::run(context).await,
        Command::History(args) => history::run(context, &args).await,
        Command::Logs(args) => logs::run(context, &args),
        Command::Pause => steer::pause(context).await,
        Command::Resume => steer::resume(context).await,
        Command::Promote(args) => steer::promote(context, &args).await,
        Command::Abort(args) => steer::abort(context, &args).await,
        Command::Rollback(args) => steer::rollback(context, args).await,
        Command::Scale(args) => scale::run(context, &args).await,
        Command::Restart(args) => restart::run(context, args).await,
        Command::Doctor => doctor::run(context).await,
        Command::Init(_)
        | Command::Reference(_)
        | Command::Openapi
        | Command::Demo(_)
        | Command::Role(_)
        | Command::Example(_) => Ok(Exit::Done),
    }
}

/// Runs a future on a runtime of one thread.
fn wait_for(future: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

impl Context<'_> {
    /// Shows an answer, and waits for its release if there is one.
    async fn conclude(&self, answer: &Answer, wait: Option<WaitFor>) -> anyhow::Result<Exit> {
        if self.json {
            term::json(answer)?;
        } else {
            term::line(&answer.text);
        }
        match (answer.release, wait) {
            (Some(id), Some(wait)) => follow::release(&self.client, id, wait, self.json).await,
            _ => Ok(Exit::Done),
        }
    }
}
