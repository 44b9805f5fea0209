//! A running Evenkeel in a folder of its own, for as long as a benchmark lasts.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Builds the product in release profile and gives its path.
pub(super) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    build_package(root, "evenkeel")
}

/// Builds these benchmarks in release profile, as instances and load should be, and gives the path.
pub(super) fn build_xtask(root: &Path) -> anyhow::Result<PathBuf> {
    build_package(root, "xtask")
}

fn build_package(root: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", package])
        .current_dir(root)
        .status()
        .context("could not run cargo")?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release").join(package))
}

/// A free address on the loopback interface. Free a moment ago, at least.
pub(super) fn free_addr() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A home and a stack file. Everything in it is stopped and deleted when it is dropped.
#[derive(Debug)]
pub(super) struct House {
    program: PathBuf,
    folder: tempfile::TempDir,
    /// What commands are run by: `taskset -c 0`, or nothing.
    prefix: Vec<String>,
}

impl House {
    pub(super) fn new(program: &Path, prefix: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ekb-").tempdir()?;
        let prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { program: program.to_owned(), folder, prefix })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Writes the stack file.
    pub(super) fn write(&self, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder.path().join("evenkeel.toml"), text)?)
    }

    /// A command of Evenkeel, ready to run.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut words = self.prefix.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(self.program.clone().into_os_string());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .args(args)
            .env("EVENKEEL_HOME", self.home())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of Evenkeel to its end and gives what it printed.
    pub(super) fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command(args).output().context("could not run evenkeel")?;
        if !output.status.success() {
            bail!(
                "evenkeel {} ended with {}:\n{}{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The process of a role.
    pub(super) fn pid(&self, role: &str) -> anyhow::Result<u32> {
        let path = self.home().join(format!("run/{role}.pid"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
        Ok(text.trim().parse()?)
    }

    /// The status, as JSON.
    pub(super) fn status(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.run(&["status", "--json"])?)?)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down"]) {
            println!("could not stop everything: {error:#}");
        }
    }
}
