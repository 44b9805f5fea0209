//! What this machine lets us do for instances, what it does not, and how to get the rest: for
//! `evenkeel doctor`.

use std::path::{Path, PathBuf};

use crate::cgroup;

/// How instances are kept apart here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The folder of the instances' cgroups, where we may have one.
    pub cgroup: Option<PathBuf>,
    /// How `limits.memory` is kept.
    pub memory: Enforcement,
    /// How `limits.cpu` is kept.
    pub cpu: Enforcement,
    /// What is missing, and how to get it; one sentence each.
    pub advice: Vec<String>,
}

/// Who keeps a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The operating system, exactly.
    System,
    /// The shim, which looks about once a second.
    Shim,
    /// Nobody; the limit is shown as not enforced.
    Nobody,
}

/// Finds out how instances whose home is `home` are kept apart on this machine.
#[must_use]
pub fn isolation(home: &Path) -> Isolation {
    let base = cgroup::base();
    let controllers = base.as_deref().map(cgroup::controllers).unwrap_or_default();
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    let mut advice = Vec::new();
    if base.is_none() {
        advice.push(
            "no cgroup of version 2 is writable, so a daemon that an instance started can hide \
             if its shim is killed too; run as a systemd unit with `Delegate=yes`"
                .to_owned(),
        );
    }
    let memory = if has("memory") { Enforcement::System } else { Enforcement::Shim };
    let cpu = if has("cpu") { Enforcement::System } else { Enforcement::Nobody };
    if memory == Enforcement::Shim {
        advice.push(
            "the memory controller of cgroup version 2 is not available, so shims watch memory \
             limits once a second; boot with `systemd.unified_cgroup_hierarchy=1`, or delegate it"
                .to_owned(),
        );
    }
    if cpu == Enforcement::Nobody {
        advice.push(
            "the cpu controller of cgroup version 2 is not available, so `limits.cpu` is not \
             enforced; boot with `systemd.unified_cgroup_hierarchy=1`, or delegate it"
                .to_owned(),
        );
    }
    if home.as_os_str().len() > evenkeel_kernel::layout::HOME_LENGTH_MAX {
        advice.push(format!(
            "the home folder's path is longer than {} bytes, too long for the sockets below it",
            evenkeel_kernel::layout::HOME_LENGTH_MAX
        ));
    }
    Isolation { cgroup: base, memory, cpu, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_missing_comes_with_advice() {
        let found = isolation(Path::new("/srv/shop"));
        let missing = [
            found.cgroup.is_none(),
            found.memory == Enforcement::Shim,
            found.cpu == Enforcement::Nobody,
        ];
        assert_eq!(found.advice.len(), missing.into_iter().filter(|&it| it).count());
        let long = isolation(Path::new(&format!("/{}", "x".repeat(70))));
        assert_eq!(long.advice.len(), found.advice.len() + 1);
    }
}
