//! What readers of the API see: the state and the world of one moment, swapped as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use evenkeel_kernel::model::Epoch;
use evenkeel_kernel::release::State;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::World;

/// One moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: Arc<State>,
    pub(crate) world: Arc<World>,
    pub(crate) epoch: Epoch,
    pub(crate) now: Timestamp,
    /// The same moment by the wall clock, in milliseconds since 1970 UTC.
    pub(crate) wall_ms: u64,
}

impl Snapshot {
    /// A moment of the kernel's time by the wall clock, as far as the wall clock has not jumped
    /// since.
    pub(crate) fn wall(&self, at: Timestamp) -> u64 {
        let wall = i128::from(self.wall_ms) + i128::from(at.0) - i128::from(self.now.0);
        u64::try_from(wall.max(0)).unwrap_or(u64::MAX)
    }
}

/// The newest moment.
#[derive(Clone, Debug)]
pub(crate) struct Latest(Arc<ArcSwap<Snapshot>>);

impl Latest {
    pub(crate) fn new(first: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    pub(crate) fn get(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}
