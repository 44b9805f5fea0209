//! Instances whose connections failed just now, for the prober to ask before it is their time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The suspects, by key: each once, so never more than there are instances.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    keys: Mutex<BTreeSet<u64>>,
    added: Notify,
}

impl Suspects {
    pub(crate) fn add(&self, key: u64) {
        if self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            self.added.notify_one();
        }
    }

    /// Those of now, as soon as there are any.
    pub(crate) async fn next(&self) -> BTreeSet<u64> {
        self.added.notified().await;
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
