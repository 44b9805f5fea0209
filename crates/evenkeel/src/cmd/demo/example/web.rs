//! The service that people see: it asks the catalog for every page, echoes what is put, and takes
//! orders where it has a database for them.

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::feed::Reply;
use super::orders::Orders;

/// The largest body that is echoed.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Web {
    catalog: Client,
    orders: Option<Orders>,
}

/// What the catalog answers.
#[derive(Debug, Deserialize)]
struct Items {
    version: String,
    items: Vec<String>,
}

impl Web {
    pub(super) fn from_env() -> anyhow::Result<Self> {
        let url = std::env::var("CATALOG_URL").context("CATALOG_URL is not set")?;
        Ok(Self { catalog: Client::new(&url)?, orders: Orders::from_env()? })
    }

    pub(super) async fn answer(
        &self,
        version: &str,
        request: Request<Incoming>,
    ) -> Response<Reply> {
        if let Some(orders) = &self.orders
            && let Some(id) = request.uri().path().strip_prefix("/orders/").map(str::to_owned)
        {
            return orders.answer(&id, request).await;
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.page(version).await,
            (&Method::PUT | &Method::POST, "/echo") => echo(request).await,
            _ => super::text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    async fn page(&self, version: &str) -> Response<Reply> {
        let answer = self.catalog.get("/items").await;
        let items: Result<Items, _> = answer
            .and_then(|bytes| serde_json::from_slice(&bytes).context("not what was asked for"));
        match items {
            Ok(Items { version: catalog, items }) => super::json(&json!({
                "service": "web",
                "version": version,
                "catalog": catalog,
                "items": items,
            })),
            Err(error) => super::whole(
                StatusCode::BAD_GATEWAY,
                format!("the catalog did not answer: {error:#}").into(),
            ),
        }
    }
}

async fn echo(request: Request<Incoming>) -> Response<Reply> {
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => super::whole(StatusCode::OK, body.to_bytes()),
        Err(_) => super::text(StatusCode::PAYLOAD_TOO_LARGE, "too much, or cut off"),
    }
}
