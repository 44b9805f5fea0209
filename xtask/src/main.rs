//! Automation of this workspace: `cargo xtask <command>`. One file per command.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command line speaks through its output")]

mod analysis_table;
mod bench;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy    say everything in the tree that breaks a rule of the house
  test    tidy, clippy, every test, the simulator's seeds and planted errors
  bench [NAME…]
          benchmarks, each beside peers or a bare loop, measured in the same run; all, or of these:
            releases   1,000 instances from one revision to the next
            edge       requests through the edge by HTTP/1.1
            protocols  HTTP/1.1, HTTP/2, TLS, gRPC and WebSockets through the edge and five proxies
            changes    what clients see of a changed configuration and of a killed instance
            abort      the command to the last answer of the bad revision
            judgement  the analysis and the decisions of a large release
            dns        answers of DNS
            discovery  a change of health to those who watch
            schema     changes of a PostgreSQL table under load, beside plain SQL and a range walk:
                       [--rows N] [--reader] [--change wider|added] [--only ours|plain|walk]
  analysis-table
          what the analysis says of simulated releases, beside the rules of other tools
";

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ok = match words.as_slice() {
        ["tidy"] => tidy::run(&root()?)?,
        ["test"] => test::run(&root()?)?,
        ["bench", names @ ..] => bench::run(&root()?, names)?,
        ["analysis-table"] => {
            analysis_table::run();
            true
        }
        // The instance of which the benchmarks start a thousand.
        ["tiny"] => bench::tiny::serve()?,
        // The instances that give back what they get, and who asks them.
        ["echo", words @ ..] => bench::echo::serve(words)?,
        ["load", words @ ..] => bench::load::run(words)?,
        // Discovery with a directory that is made up.
        ["stand-in", words @ ..] => bench::stand_in::serve(words)?,
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            true
        }
        _ => {
            print!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of the workspace: the parent of this crate's.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("could not find the workspace above xtask")?.to_owned())
}
