//! `evenkeel restore`: puts a backup in the place of a lost or damaged journal.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use evenkeel_journal::{BACKUPS, newest_good_backup, restore};
use evenkeel_kernel::layout;

use super::Context;
use crate::cli::Restore;
use crate::exit::Exit;
use crate::{role, term};

pub(super) fn run(context: &Context<'_>, args: &Restore) -> anyhow::Result<Exit> {
    if role::is_running(context.home, "control") || role::is_running(context.home, "keeper") {
        bail!(
            "the roles run; stop them first with `evenkeel down --keep-instances` (instances go on)"
        );
    }
    let folder = context.home.join(layout::STATE);
    let backups = folder.join(BACKUPS);
    let backup = match &args.backup {
        Some(backup) => backup.clone(),
        None => newest_good_backup(&backups)
            .with_context(|| format!("there is no whole backup in {}", backups.display()))?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    restore(&folder, &backup, now)?;
    if context.json {
        term::json(&serde_json::json!({ "restored": backup }))?;
    } else {
        term::line(&format!("restored {}", backup.display()));
        term::line("what was there is kept beside it; `evenkeel up` goes on from the backup");
    }
    Ok(Exit::Done)
}
