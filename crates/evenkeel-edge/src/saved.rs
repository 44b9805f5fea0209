//! The last good table on disk: what the edge serves when it starts and nobody is there to ask.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use serde::{Deserialize, Serialize};

/// The version of the file's format.
const VERSION: u32 = 1;

/// What is saved: the table, and who was believed to be healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    version: u32,
    pub(crate) table: RoutingTable,
    pub(crate) healthy: BTreeSet<InstanceId>,
}

impl Saved {
    pub(crate) fn new(table: RoutingTable, healthy: BTreeSet<InstanceId>) -> Self {
        Self { version: VERSION, table, healthy }
    }

    /// Writes it so that a crash leaves either the old file or the new one.
    pub(crate) fn write(&self, home: &Path) -> io::Result<()> {
        let path = home.join(layout::EDGE_TABLE);
        replace(&path, &serde_json::to_vec(self)?)
    }

    /// Reads it; `None` when there is none.
    pub(crate) fn read(home: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(home.join(layout::EDGE_TABLE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let saved: Self = serde_json::from_slice(&text)?;
        if saved.version != VERSION {
            return Err(io::Error::other(format!("it has the unknown version {}", saved.version)));
        }
        Ok(Some(saved))
    }
}

/// Whether an edge of this program could serve what is on the disk of `home`, if anything is.
///
/// # Errors
/// When it could not be read.
pub fn can_start(home: &Path) -> io::Result<()> {
    Saved::read(home).map(drop)
}

/// Puts `content` at `path` in one step, durably.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service_table;

    #[test]
    fn what_is_written_is_read_and_garbage_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        assert!(Saved::read(home.path()).unwrap().is_none());
        let healthy = [InstanceId::try_from("web.r1.2".to_owned()).unwrap()].into();
        let saved = Saved::new(service_table(7, vec![]), healthy);
        saved.write(home.path()).unwrap();
        assert_eq!(Saved::read(home.path()).unwrap(), Some(saved));
        for garbage in [
            "",
            "{}",
            r#"{"version":2,"table":{"fence":{"epoch":1,"generation":1},"services":{},"routes":[]},"healthy":[]}"#,
        ] {
            fs::write(home.path().join(layout::EDGE_TABLE), garbage).unwrap();
            assert!(Saved::read(home.path()).is_err(), "{garbage}");
        }
    }
}
