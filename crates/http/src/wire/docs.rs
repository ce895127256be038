//! `/api/openapi.json` and `/api/docs`: a server's whole API as a document, and a page to
//! try it.
//!
//! Tests generate the documents from the handlers' types, and keep them up to date
//! (`openapi`): the code that serves requests knows nothing of schemas, and a document
//! costs no memory until it is read.

use axum::{Router, http::HeaderMap, routing::get};

use super::pages::{self, EmbeddedFile};

/// The node's, then the main server's.
pub static NODE: EmbeddedFile =
    EmbeddedFile::new("node.json", include_bytes!("../../../../openapi/node.json"));
pub static MAIN_SERVER: EmbeddedFile =
    EmbeddedFile::new("main-server.json", include_bytes!("../../../../openapi/main-server.json"));

pub fn router<S: Clone + Send + Sync + 'static>(document: &'static EmbeddedFile) -> Router<S> {
    let document = move |asked: HeaderMap| async move { document.answer(&asked) };
    let page = async |asked: HeaderMap| pages::page("docs.html", &asked);
    Router::new().route("/api/openapi.json", get(document)).route("/api/docs", get(page))
}
