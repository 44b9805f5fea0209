//! `$EVENKEEL_HOME`: where one stack's state, sockets and logs live. Several can live side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use evenkeel_kernel::layout;

/// The home for this call: `--home` or `$EVENKEEL_HOME`, else `$XDG_STATE_HOME/evenkeel`, else
/// `~/.local/state/evenkeel`.
pub(crate) fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let home = match given {
        Some(given) if given.as_os_str().is_empty() => default()?,
        Some(given) => std::path::absolute(given)
            .with_context(|| format!("could not use {} as a home", given.display()))?,
        None => default()?,
    };
    let length = home.as_os_str().len();
    if length > layout::HOME_LENGTH_MAX {
        bail!(
            "the home {} is {length} bytes long, and sockets below it allow {} at most; \
             set EVENKEEL_HOME to a shorter path",
            home.display(),
            layout::HOME_LENGTH_MAX
        );
    }
    Ok(home)
}

fn default() -> anyhow::Result<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state = state.context("neither EVENKEEL_HOME nor HOME is set; set EVENKEEL_HOME")?;
    Ok(state.join("evenkeel"))
}

/// Makes the home and its folders, for this user only.
pub(crate) fn prepare(home: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    for folder in ["", layout::RUN, layout::SHIM_SOCKETS, layout::STATE, layout::LOGS, "edge"] {
        let path = home.join(folder);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("could not make {}", path.display()))?;
    }
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("could not make {} private", home.display()))
}
