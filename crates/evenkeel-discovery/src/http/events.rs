//! Server-sent events: the directory, and every change of it.
//!
//! Who is slow misses no end state: what is sent next is the difference to what was sent last,
//! however many changes there were between, so nothing is queued.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::own;
use crate::catalog::{Catalog, changed};
use crate::hub::{Hub, Interest};
use crate::readers::Watching;

/// After so long without news a line says that all is well; also how a client that is gone is
/// noticed.
const QUIET: Duration = Duration::from_secs(15);

/// Begins a stream of events, of all services or of one.
pub(super) fn stream(hub: Rc<Hub>, only: Option<String>, watching: Watching) -> Answer {
    // One piece under way: the socket's own buffer is queue enough.
    let (send, pieces) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        tell(hub, only, send).await;
        drop(watching);
    });
    answer::stream("text/event-stream", pieces)
}

async fn tell(hub: Rc<Hub>, only: Option<String>, send: mpsc::Sender<Bytes>) {
    let interest = only.as_deref().map_or(Interest::Any, Interest::Service);
    let mut seen = Catalog::clone(&hub.now());
    let mut index = hub.index(interest);
    let whole = only.as_ref().map_or_else(
        || event("directory", index, &own::directory(&seen, index)),
        |name| service(&seen, name, index),
    );
    if send.send(whole.into()).await.is_err() {
        return;
    }
    while !hub.is_ending() {
        hub.wait(interest, index, Instant::now() + QUIET).await;
        let (now, next) = (hub.now(), hub.index(interest));
        let mut text = String::new();
        if next == index {
            text.push_str(": nothing new\n\n");
        } else if let Some(name) = &only {
            text.push_str(&service(&now, name, next));
        } else {
            for name in changed(&now, &seen) {
                text.push_str(&service(&now, &name, next));
            }
        }
        index = next;
        seen = Catalog::clone(&now);
        drop::<Arc<Catalog>>(now);
        if !text.is_empty() && send.send(text.into()).await.is_err() {
            return;
        }
    }
}

fn service(catalog: &Catalog, name: &str, index: u64) -> String {
    match own::service(catalog, name) {
        Some(it) => event("service", index, &it),
        None => event("removed", index, &serde_json::json!({ "service": name })),
    }
}

fn event(name: &str, index: u64, data: &impl serde::Serialize) -> String {
    let data = serde_json::to_string(data).expect("what we say has text for keys");
    let mut text = String::with_capacity(data.len() + 64);
    write!(text, "event: {name}\nid: {index}\ndata: {data}\n\n")
        .expect("writing to a String cannot fail");
    text
}
