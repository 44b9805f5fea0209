//! Runs what hyper wants run beside a connection on the connection's own thread.

use hyper::rt::Executor;

/// This thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}
