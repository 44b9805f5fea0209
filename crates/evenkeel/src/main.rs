//! The one binary: every command and every role.
//!
//! Commands are in `cmd`, one file each; roles are in `role`. What they do is in the other rooms;
//! here they are read from the command line, started, and shown.

#![forbid(unsafe_code)]

mod cli;
mod cmd;
mod exit;
mod follow;
mod home;
mod migrations;
mod role;
mod stackfile;
mod term;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // A shim is one of a thousand: it is started before anything else allocates.
    if let Some(code) = role::small() {
        return code;
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help is no error; and 2, which is usual for a mistyped command, is `plan`'s to say.
            let exit = if said.use_stderr() { exit::Exit::Error } else { exit::Exit::Done };
            drop(said.print());
            return exit.into();
        }
    };
    let json = cli.json;
    match cmd::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            term::print_error(&error, json);
            exit::Exit::Error.into()
        }
    }
}
