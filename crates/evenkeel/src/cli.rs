//! The command line, as people type it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Replaces every part of a running system, piece by piece, while the system stays live.
#[derive(Debug, Parser)]
#[command(
    name = "evenkeel",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Exit codes:
  0  done: promoted, nothing to change, all is well
  1  an error, or a refusal
  2  `plan` found changes
  3  `up`, `apply`: the release was taken back (rolled back, aborted, superseded)
  130  interrupted; what it had started was taken down

Examples:
  evenkeel demo                     see releases, bad ones, crashes, a new schema, in a minute
  evenkeel init                     write a starter evenkeel.toml for this folder
  evenkeel up                       start the roles and release the stack
  evenkeel apply                    release what has changed in evenkeel.toml
  evenkeel status --watch           watch it
  evenkeel rollback                 take the last release back"
)]
pub(crate) struct Cli {
    /// Where state, sockets and logs live [default: by the XDG rules, ~/.local/state/evenkeel]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print JSON: one value, or one per line for what goes on for a while
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the roles, if they do not run, and release the stack
    Up(Apply),
    /// Stop every instance and every role; `up` brings them back
    Down(Down),
    /// Show what applying the stack file would change (exit code 2 if anything)
    Plan(File),
    /// Release what has changed in the stack file, and wait until it is promoted or taken back
    Apply(Apply),
    /// Show services, traffic, instances and the release under way
    Status(Status),
    /// Say what is being waited for, since when, until when, and what would help
    Why,
    /// Say what was decided in a release, when, by whom and why
    Explain(Explain),
    /// List the releases, or the journal
    History(History),
    /// Show what instances print
    Logs(Logs),
    /// Hold the release at its present step
    Pause(Reason),
    /// Go on after a pause
    Resume,
    /// Take the next step of the release now; after promotion: contract now
    Promote(Promote),
    /// Let a step pass that waits at its gate
    Approve(Approve),
    /// Let nothing new be released, but for hotfixes and ways back; `scale` still works
    Lock(Lock),
    /// Let changes be released again
    Unlock,
    /// Let the requests of a service wait for a moment, and wait until it answers none
    Hold(Hold),
    /// Serve them again
    Unhold(Unhold),
    /// Take the release back, before all traffic has moved
    Abort(Abort),
    /// Go back: instant until contract, after it by a new release
    Rollback(Rollback),
    /// Set how many instances a service has
    Scale(Scale),
    /// Replace the instances of services by fresh ones, as a rollout
    Restart(Restart),
    /// List who is told what happens, or try one of them
    Notify(Notify),
    /// Show where a service leads: its instances, how they are and what they get
    Resolve(Resolve),
    /// See how schemas of databases change, before, while and after they do
    #[command(subcommand)]
    Schema(Schema),
    /// Check that everything is as it should be
    Doctor,
    /// Replace every role on this machine by this program, and lose nothing
    Upgrade(Upgrade),
    /// Put a backup in the place of a lost or damaged journal
    Restore(Restore),
    /// Write a commented starter evenkeel.toml for what is in this folder
    Init(Init),
    /// Print the reference of the stack file
    Reference(Reference),
    /// Print the OpenAPI document of the control plane's API
    Openapi,
    /// Show a whole life in a minute: releases, bad ones, crashes, a new schema, under load
    Demo(Demo),
    /// A role of Evenkeel itself; started by `up`
    #[command(subcommand, hide = true)]
    Role(Role),
    /// A service of the demo
    #[command(hide = true)]
    Example(Example),
}

/// The roles that run in the background.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Holds the listening sockets; starts and restarts control and edge
    Keeper {
        /// Leave the terminal's session
        #[arg(long)]
        detach: bool,
        /// Processes that it started as another program
        #[arg(long, value_delimiter = ',')]
        children: Vec<u32>,
    },
    /// Decides
    Control,
    /// Serves
    Edge {
        /// Take the place of the edge that runs
        #[arg(long)]
        succeed: bool,
    },
}

/// Which stack file.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The stack file [default: evenkeel.toml]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What to release, and how long to wait.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) file: File,
    /// Do not ask. Without a terminal nobody is asked, but what destroys needs this
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not wait
    #[arg(long, conflicts_with = "wait")]
    pub(crate) detach: bool,
    /// What to wait for
    #[arg(long, value_enum, default_value_t = WaitFor::Promoted, value_name = "WHAT")]
    pub(crate) wait: WaitFor,
    /// Release a revision although it was taken back before
    #[arg(long)]
    pub(crate) force: bool,
    /// Why this cannot wait: passes a lock and takes one short step; loud in the journal
    #[arg(long, value_name = "REASON")]
    pub(crate) hotfix: Option<String>,
    /// How many instances go for good; needed where most of a service goes, and a yes to that
    #[arg(long, value_name = "COUNT")]
    pub(crate) expect_destroy: Option<u32>,
}

/// How long to wait for a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// All traffic is on the new revisions, or it was taken back
    Promoted,
    /// The old revisions are gone too
    Complete,
}

/// Whether to wait.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Do not wait for the end
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Why a release is steered.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why, for the journal
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

/// Why a release is taken back, and whether to wait for it.
#[derive(Debug, Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Whether somebody approves who may not.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// Approve although the gate names others; loud in the journal
    #[arg(long, value_name = "REASON")]
    pub(crate) force: Option<String>,
}

/// What to stop.
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Stop only the roles; instances go on, unrouted, until `up` adopts them
    #[arg(long)]
    pub(crate) keep_instances: bool,
}

/// How to show the status.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Redraw it in place until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Show every instance
    #[arg(short, long)]
    pub(crate) instances: bool,
}

/// Why nothing is to be released.
#[derive(Debug, Args)]
pub(crate) struct Lock {
    /// For everybody who meets it: "the sale is on until Monday"
    pub(crate) reason: String,
}

/// Which requests are to wait.
#[derive(Debug, Args)]
#[command(after_help = "\
New requests wait and reach nobody; those under way are answered. Each waits for 10 s at most, up to \
1,000 of them or 64 MiB; more are told to try again (503, Retry-After). Open WebSockets and other \
connections that live long go on. The hold ends by itself, also if nobody is there to end it. Exit \
code 0: nothing is under way any more and the hold lasts; 1: it ended before that.

Example:
  evenkeel hold web --for 20s && ./switch-database; evenkeel unhold web")]
pub(crate) struct Hold {
    /// The service
    pub(crate) service: String,
    /// How long it lasts at most, up to 1m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) lasts: Duration,
    #[command(flatten)]
    pub(crate) reason: Reason,
    /// Do not wait until what is under way is answered
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Which requests are to be served again.
#[derive(Debug, Args)]
pub(crate) struct Unhold {
    /// The service
    pub(crate) service: String,
}

/// A span as in the stack file.
fn time(text: &str) -> Result<Duration, String> {
    evenkeel_kernel::spec::span(text).ok_or_else(|| "no time; write 10s or 1m".to_owned())
}

/// What to do about the schemas of databases.
#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Show what the migrations that were not run yet come to
    #[command(after_help = "\
The same is part of `evenkeel plan`; here it is shown alone, and with --sql every statement of it.
Nothing is changed. Exit code 2: there is something to do.")]
    Plan {
        #[command(flatten)]
        file: File,
        /// Show every statement, by phase
        #[arg(long)]
        sql: bool,
    },
    /// Show how far each schema is
    Status {
        #[command(flatten)]
        file: File,
    },
    /// Say what is wrong with migrations, or dangerous, without a database
    #[command(after_help = "\
All migrations are read in their order; said is what concerns the named ones, or the newest.

Example, in CI:
  evenkeel schema lint db/migrations/0042_split_name.sql")]
    Lint {
        #[command(flatten)]
        file: File,
        /// Migrations, by their files
        #[arg(value_name = "MIGRATION")]
        migrations: Vec<PathBuf>,
    },
    /// List the revisions that each schema has had
    History {
        #[command(flatten)]
        file: File,
    },
    /// Write down that migrations were run by others than Evenkeel; nothing else is changed
    Adopt {
        /// The database
        database: String,
        #[command(flatten)]
        file: File,
        /// The last migration that was run [default: all in the folder]
        #[arg(long, value_name = "MIGRATION")]
        through: Option<String>,
    },
}

/// What of the past to show.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Show one release with its ledger and its journal
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<u64>,
    /// Show the journal instead of the releases
    #[arg(long)]
    pub(crate) journal: bool,
}

/// Which release to explain.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Its number [default: the newest]
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<u64>,
}

/// Which logs to show.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// `web`, `web/r2`, `web/r2.3` or `web.r2.3` [default: everything]
    #[arg(value_name = "SERVICE[/INSTANCE]")]
    pub(crate) of: Option<String>,
    /// Go on as more is printed
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many lines of each instance to begin with
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: usize,
    /// With -f: put the time at which it was seen before each new line. What was printed earlier
    /// has none: instances write their logs themselves, and nobody takes down when
    #[arg(long, requires = "follow")]
    pub(crate) times: bool,
}

/// How far to promote.
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// To all traffic, skipping every step
    #[arg(long)]
    pub(crate) full: bool,
}

/// Where to go back to.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// A service [default: everything the last release moved]
    pub(crate) service: Option<String>,
    /// The revision it goes back to: `r3` [default: the one before]
    pub(crate) revision: Option<String>,
    /// Go back to a revision although it was taken back before, or for the second time in a row
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// How many instances.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// `web=5`, several are possible
    #[arg(required = true, value_name = "SERVICE=COUNT")]
    pub(crate) services: Vec<String>,
    /// Do not ask, even when instances go
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// What to restart.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Services [default: all]
    pub(crate) services: Vec<String>,
    /// Go ahead although that ends the release under way
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// What to do with receivers.
#[derive(Debug, Args)]
pub(crate) struct Notify {
    /// [default: list them]
    #[command(subcommand)]
    pub(crate) what: Option<NotifyWhat>,
}

/// Which name.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// A service, or a name that discovery knows: `web`, `r12.web`, `i3.r12.web.shop.internal`
    pub(crate) name: String,
}

/// What to do with one receiver.
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyWhat {
    /// Send it a `notify.test` now, and say whether it took it
    Test {
        /// Its name in the stack file: `ops` of `[notify.ops]`
        name: String,
    },
}

/// What to replace.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it with the new program, wherever that lies: all roles run from there afterwards, also when they \
are started again. Instances go on, requests too; what the former edge still holds may take five more \
minutes. If something goes wrong it stops there and says so; what runs goes on, and the same command \
goes on where it stopped.

Examples:
  evenkeel upgrade                    after the program was replaced where it lies
  ./evenkeel-0.3.0 upgrade            by a program that lies elsewhere
  evenkeel upgrade --check            only look whether it could be done
  evenkeel upgrade --json             one line for each thing that is done")]
pub(crate) struct Upgrade {
    /// Only check whether it could be done
    #[arg(long, conflicts_with = "again")]
    pub(crate) check: bool,
    /// Replace also what runs this very program already
    #[arg(long)]
    pub(crate) again: bool,
}

/// Which backup.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup [default: the newest that is whole]
    pub(crate) backup: Option<PathBuf>,
}

/// Where to write the starter file.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to look at
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Print it instead of writing it
    #[arg(long)]
    pub(crate) stdout: bool,
}

/// Which form of the reference.
#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// The JSON Schema for editors
    #[arg(long)]
    pub(crate) json_schema: bool,
}

/// How to run the demo.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Requests per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=50_000))]
    pub(crate) rate: u32,
    /// Leave the folder with logs and journal behind
    #[arg(long)]
    pub(crate) keep: bool,
    /// Look for PostgreSQL's programs in this folder alone, and not wherever they may be
    #[arg(long, value_name = "FOLDER")]
    pub(crate) postgres: Option<PathBuf>,
}

/// One of the demo's services.
#[derive(Debug, Args)]
pub(crate) struct Example {
    /// `web` or `catalog`
    pub(crate) name: String,
}
