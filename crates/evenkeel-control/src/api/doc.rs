//! The OpenAPI document, generated from handlers and types.

use utoipa::OpenApi;

use super::handlers;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Evenkeel",
        description = "The control plane's API, served on a unix socket below $EVENKEEL_HOME."
    ),
    paths(
        handlers::version,
        handlers::status,
        handlers::why,
        handlers::releases,
        handlers::release,
        handlers::journal,
        handlers::events,
        handlers::plan,
        handlers::apply,
        handlers::pause,
        handlers::resume,
        handlers::promote,
        handlers::approve,
        handlers::lock,
        handlers::unlock,
        handlers::hold,
        handlers::unhold,
        handlers::abort,
        handlers::rollback,
        handlers::scale,
        handlers::restart,
        handlers::stop_all,
        handlers::notify,
        handlers::notify_test,
    )
)]
struct Document;

/// The OpenAPI document as JSON.
#[must_use]
pub fn openapi() -> String {
    Document::openapi().to_pretty_json().expect("the document has only text keys")
}

#[cfg(test)]
mod tests {
    #[test]
    fn s40_every_endpoint_is_documented() {
        let document: serde_json::Value = serde_json::from_str(&super::openapi()).unwrap();
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let mut routed: Vec<&str> = crate::listen::PATHS.to_vec();
        routed.sort_unstable();
        assert_eq!(paths, routed);
    }
}
