//! `/api/openapi.json` and `/api/docs`: the whole API of a face in words and
//! types, and a page to try it.
//!
//! The documents are made from the handlers' types, by tests, which also keep
//! them up to date (`openapi`): what serves requests knows nothing of schemas,
//! and a document costs no memory until somebody reads it.

use axum::{Router, http::HeaderMap, routing::get};

use super::pages::{self, File};

/// Of the node, and of the main server.
pub static NODE: File = File::new("node.json", include_bytes!("../../../../openapi/node.json"));
pub static MAIN_SERVER: File =
    File::new("main-server.json", include_bytes!("../../../../openapi/main-server.json"));

pub fn router<S: Clone + Send + Sync + 'static>(document: &'static File) -> Router<S> {
    let document = move |asked: HeaderMap| async move { document.answer(&asked) };
    let page = async |asked: HeaderMap| pages::page("docs.html", &asked);
    Router::new().route("/api/openapi.json", get(document)).route("/api/docs", get(page))
}
