//! The OpenAPI document. The tests compare it with the routes and the answers.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn answer() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_all_routes_and_no_others() {
        let sources = concat!(include_str!("routes.rs"), include_str!("commands.rs"));
        let routed = sources.split(".route(\"").skip(1);
        let routed = routed.filter_map(|rest| rest.split('"').next());
        // axum writes a parameter that may contain slashes as `{*name}`.
        let routed: BTreeSet<String> = routed.map(|route| route.replace("{*", "{")).collect();
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let documented = document["paths"].as_object().expect("an object").keys();
        assert_eq!(documented.cloned().collect::<BTreeSet<_>>(), routed);
    }
    #[test]
    fn head_is_documented_wherever_get_is_and_as_that() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).expect("JSON");
        for (path, operations) in document["paths"].as_object().expect("an object") {
            let (get, head) = (&operations["get"], &operations["head"]);
            assert_eq!(get["parameters"], head["parameters"], "{path}");
            let statuses = |operation: &serde_json::Value| {
                let responses = operation["responses"].as_object();
                responses.map(|all| all.keys().cloned().collect::<BTreeSet<_>>())
            };
            assert_eq!(statuses(get), statuses(head), "{path}");
            assert!(!head.to_string().contains("content"), "{path}: no body");
        }
    }
}
