//! Design errors that can be planted, to show that the simulator would find them.
//!
//! Each sits in the controller's shell, the store or an executor; the kernel is always the real
//! one.

use std::fmt;
use std::str::FromStr;

/// One planted design error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Executors obey orders of any age.
    NoFencing,
    /// Names of instances are given again.
    SlotsReused,
    /// What was ordered is taken to be done.
    TrustJournal,
    /// Orders are sent before the decision is durable.
    ActBeforeCommit,
    /// Each attempt to start an instance gives it another name.
    RandomNames,
    /// What could not be seen is taken to be absent.
    UnknownIsEmpty,
    /// A release turns back after its point of no return.
    RollbackInContract,
    /// A new controller starts with what the one before it saw.
    CachedWorld,
    /// Instances are stopped without asking whether the edge routes to them.
    NoStopPrecondition,
    /// The store takes commits of controllers that were replaced.
    NoStoreFence,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoFencing,
        Self::SlotsReused,
        Self::TrustJournal,
        Self::ActBeforeCommit,
        Self::RandomNames,
        Self::UnknownIsEmpty,
        Self::RollbackInContract,
        Self::CachedWorld,
        Self::NoStopPrecondition,
        Self::NoStoreFence,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFencing => "no-fencing",
            Self::SlotsReused => "slots-reused",
            Self::TrustJournal => "trust-journal",
            Self::ActBeforeCommit => "act-before-commit",
            Self::RandomNames => "random-names",
            Self::UnknownIsEmpty => "unknown-is-empty",
            Self::RollbackInContract => "rollback-in-contract",
            Self::CachedWorld => "cached-world",
            Self::NoStopPrecondition => "no-stop-precondition",
            Self::NoStoreFence => "no-store-fence",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|bug| bug.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|bug| bug.name()).collect();
            format!("there is no bug {text}; there are {}", names.join(", "))
        })
    }
}
