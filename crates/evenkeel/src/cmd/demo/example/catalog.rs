//! The service that is used by the other one: what there is to sell, and a feed of news.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::feed::{Feed, Reply};

/// What there is to sell.
const ITEMS: [&str; 3] = ["anchor", "compass", "lantern"];
/// How long somebody who waits for news waits.
const WAIT: Duration = Duration::from_secs(1);

pub(super) async fn answer(version: &str, request: &Request<Incoming>) -> Response<Reply> {
    match request.uri().path() {
        "/items" => super::json(&json!({ "version": version, "items": ITEMS })),
        "/feed" => Response::new(Reply::Feed(Feed::new())),
        "/feed/wait" => {
            tokio::time::sleep(WAIT).await;
            super::text(StatusCode::OK, "no news")
        }
        _ => super::text(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}
