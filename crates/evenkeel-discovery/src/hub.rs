//! The one place where the faces of discovery see what is now, and wait for what comes next.
//!
//! All of it is of one thread.

use std::cell::RefCell;
use std::sync::Arc;

use crate::catalog::Catalog;

/// The catalogue of now.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    catalog: RefCell<Arc<Catalog>>,
}

impl Hub {
    /// What is now.
    pub(crate) fn now(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// Puts the next in its place.
    pub(crate) fn publish(&self, next: Catalog) {
        self.catalog.replace(Arc::new(next));
    }
}
