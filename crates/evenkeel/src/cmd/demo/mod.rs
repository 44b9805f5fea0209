//! placeholder until the demo lands

use crate::cli::Demo;
use crate::exit::Exit;

pub(super) async fn run(_: &Demo, _: bool) -> anyhow::Result<Exit> { Ok(Exit::Done) }
pub(super) fn example(_: &str) -> anyhow::Result<Exit> { Ok(Exit::Done) }
