//! The service that is used by the other one: what there is to sell, a feed of news, and somebody
//! to talk to over an upgraded connection.

use std::cell::RefCell;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::feed::{Feed, Reply};

/// What there is to sell.
const ITEMS: [&str; 3] = ["anchor", "compass", "lantern"];
/// What is spoken after an upgrade.
pub(in crate::cmd::demo) const PROTOCOL: &str = "echo";
/// Bytes said back at once.
const PIECE: usize = 1_024;
/// How long somebody who waits for news waits.
const WAIT: Duration = Duration::from_secs(1);

pub(super) async fn answer(
    version: &str,
    request: &mut Request<Incoming>,
    talks: &RefCell<JoinSet<()>>,
) -> Response<Reply> {
    match request.uri().path() {
        "/items" => super::json(&json!({ "version": version, "items": ITEMS })),
        "/feed" => Response::new(Reply::Feed(Feed::new())),
        "/feed/wait" => {
            tokio::time::sleep(WAIT).await;
            super::text(StatusCode::OK, "no news")
        }
        "/feed/talk" => {
            let upgrade = hyper::upgrade::on(request);
            talks.borrow_mut().spawn_local(async move {
                // Whoever asked may be gone already.
                if let Ok(upgraded) = upgrade.await {
                    echo(TokioIo::new(upgraded)).await;
                }
            });
            upgraded()
        }
        _ => super::text(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

fn upgraded() -> Response<Reply> {
    let mut response = super::text(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Says everything back until the other side ends the talk.
async fn echo(mut stream: TokioIo<Upgraded>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let said = piece.get(..length).unwrap_or_default();
        if stream.write_all(said).await.is_err() {
            return;
        }
    }
}
