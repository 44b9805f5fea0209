//! The API's socket: mode 0600, and only for the user whose home it is, or root.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use evenkeel_kernel::layout;
use evenkeel_local::user_name;
use http::StatusCode;
use http::request::Parts;
use tokio::net::UnixListener;

use crate::api::handlers as on;
use crate::api::types::Failure;
use crate::events::Events;
use crate::notify;
use crate::orders::Orders;
use crate::snapshot::Latest;

/// The largest request: a stack file of the largest size with as much material.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Every documented path.
#[cfg(test)]
pub(crate) const PATHS: [&str; 24] = [
    "/v1/approve",
    "/v1/lock",
    "/v1/unlock",
    "/v1/hold",
    "/v1/unhold",
    "/v1/abort",
    "/v1/apply",
    "/v1/events",
    "/v1/journal",
    "/v1/notify",
    "/v1/notify/{name}/test",
    "/v1/pause",
    "/v1/plan",
    "/v1/promote",
    "/v1/releases",
    "/v1/releases/{id}",
    "/v1/restart",
    "/v1/resume",
    "/v1/rollback",
    "/v1/scale",
    "/v1/status",
    "/v1/stop-all",
    "/v1/version",
    "/v1/why",
];

/// What handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) latest: Latest,
    pub(crate) orders: Orders,
    pub(crate) events: Events,
    pub(crate) news: notify::Around,
}

/// Opens the socket and serves in a thread of its own, as long as the process lives.
pub(crate) fn start(home: &Path, api: Api) -> io::Result<()> {
    let path = home.join(layout::CONTROL_SOCKET);
    // Control's lock is held, so a socket that is there belongs to a process that is gone.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let served = match UnixListener::from_std(listener) {
                Ok(listener) => serve(listener, api).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                crate::log::line(&format!("the API ended: {error}"));
            }
        });
    })?;
    Ok(())
}

async fn serve(listener: UnixListener, api: Api) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/version", get(on::version))
        .route("/v1/status", get(on::status))
        .route("/v1/why", get(on::why))
        .route("/v1/releases", get(on::releases))
        .route("/v1/releases/{id}", get(on::release))
        .route("/v1/journal", get(on::journal))
        .route("/v1/events", get(on::events))
        .route("/v1/plan", post(on::plan))
        .route("/v1/apply", post(on::apply))
        .route("/v1/pause", post(on::pause))
        .route("/v1/resume", post(on::resume))
        .route("/v1/promote", post(on::promote))
        .route("/v1/approve", post(on::approve))
        .route("/v1/lock", post(on::lock))
        .route("/v1/unlock", post(on::unlock))
        .route("/v1/hold", post(on::hold))
        .route("/v1/unhold", post(on::unhold))
        .route("/v1/abort", post(on::abort))
        .route("/v1/rollback", post(on::rollback))
        .route("/v1/scale", post(on::scale))
        .route("/v1/restart", post(on::restart))
        .route("/v1/stop-all", post(on::stop_all))
        .route("/v1/notify", get(on::notify))
        .route("/v1/notify/{name}/test", post(on::notify_test))
        .route("/v1/openapi.json", get(async || crate::api::openapi()))
        // The one place where callers are let in; it lies around every route above.
        .layer(axum::middleware::from_extractor::<Caller>())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api);
    axum::serve(listener, routes.into_make_service_with_connect_info::<Peer>()).await
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// A caller who may use the API.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who they are, for the journal.
    pub(crate) name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = (StatusCode, Json<Failure>);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0);
        let own = rustix::process::geteuid().as_raw();
        match peer.and_then(|peer| peer.uid) {
            Some(uid) if uid == own || uid == 0 => Ok(Self { name: user_name(uid) }),
            Some(_) | None => {
                let failure = Failure {
                    error: "this stack belongs to another user".to_owned(),
                    hint: Some("run the command as its owner, or as root".to_owned()),
                    problems: Vec::new(),
                };
                Err((StatusCode::FORBIDDEN, Json(failure)))
            }
        }
    }
}
