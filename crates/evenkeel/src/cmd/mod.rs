//! One file per command.

mod apply;
mod demo;
mod doctor;
mod down;
mod explain;
mod history;
mod hold;
mod init;
mod logs;
mod notify;
mod plan;
mod reference;
mod resolve;
mod restart;
mod restore;
mod scale;
mod schema;
mod status;
mod steer;
mod up;
mod upgrade;
mod why;

use std::path::{Path, PathBuf};
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
    let json = cli.json;
    let there = There { given: cli.home, json };
    match cli.command {
        Command::Init(args) => init::run(&args, json),
        Command::Reference(args) => Ok(reference::run(&args)),
        Command::Openapi => {
            term::line(&evenkeel_control::api::openapi());
            Ok(Exit::Done)
        }
        Command::Example(args) => demo::example(&args.name),
        Command::Demo(args) => wait_for(demo::run(&args, json)),
        Command::Role(role) => role::run(&role, &there.home()?),
        Command::Up(args) => there.run(async |context| up::run(context, &args).await),
        Command::Down(args) => there.run(async |context| down::run(context, &args).await),
        Command::Plan(args) => there.run(async |context| plan::run(context, &args).await),
        Command::Apply(args) => there.run(async |context| apply::run(context, &args).await),
        Command::Status(args) => there.run(async |context| status::run(context, &args).await),
        Command::Why => there.run(async |context| why::run(context).await),
        Command::Explain(args) => there.run(async |context| explain::run(context, &args).await),
        Command::History(args) => there.run(async |context| history::run(context, &args).await),
        Command::Logs(args) => there.run(async |context| logs::run(context, &args)),
        Command::Pause(args) => there.run(async |context| steer::pause(context, args).await),
        Command::Resume => there.run(async |context| steer::resume(context).await),
        Command::Promote(args) => there.run(async |context| steer::promote(context, &args).await),
        Command::Approve(args) => there.run(async |context| steer::approve(context, args).await),
        Command::Lock(args) => there.run(async |context| steer::lock(context, args).await),
        Command::Unlock => there.run(async |context| steer::unlock(context).await),
        Command::Hold(args) => there.run(async |context| hold::run(context, args).await),
        Command::Unhold(args) => there.run(async |context| hold::end(context, args).await),
        Command::Abort(args) => there.run(async |context| steer::abort(context, args).await),
        Command::Rollback(args) => there.run(async |context| steer::rollback(context, args).await),
        Command::Scale(args) => there.run(async |context| scale::run(context, &args).await),
        Command::Restart(args) => there.run(async |context| restart::run(context, args).await),
        Command::Restore(args) => there.run(async |context| restore::run(context, &args)),
        Command::Notify(args) => there.run(async |context| notify::run(context, &args).await),
        Command::Upgrade(args) => there.run(async |context| upgrade::run(context, &args).await),
        Command::Resolve(args) => there.run(async |context| resolve::run(context, &args)),
        Command::Schema(args) => schema::run(&args, json),
        Command::Doctor => there.run(async |context| doctor::run(context).await),
    }
}

/// Where a command finds the home it works on.
struct There {
    given: Option<PathBuf>,
    json: bool,
}

impl There {
    fn home(&self) -> anyhow::Result<PathBuf> {
        let given = self.given.clone();
        home::find(given.or_else(|| std::env::var_os("EVENKEEL_HOME").map(Into::into)).as_deref())
    }

    fn run(
        &self,
        command: impl AsyncFnOnce(&Context<'_>) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        let home = self.home()?;
        let kept = role::is_running(&home, "keeper");
        let patience = if kept { RESTART_MAX } else { Duration::ZERO };
        let client = Client::new(&home).patient(patience);
        let context = Context { home: &home, client, json: self.json };
        wait_for(command(&context))
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
            (Some(_), Some(wait)) => follow::release(&self.client, answer, wait, self.json).await,
            _ => Ok(Exit::Done),
        }
    }
}
