//! The pages: files of `web/`, embedded in the binary, compressed once.

use std::{
    borrow::Cow,
    io::Write,
    sync::{LazyLock, OnceLock},
};

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::not_found;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        vec![$(EmbeddedFile::of_source($name, include_str!(concat!("../../../../web/", $name)))),+]
    };
}

static FILES: LazyLock<Vec<EmbeddedFile>> = LazyLock::new(|| {
    files! {
        "castray.html",
        "docs.html",
        "icon.svg",
        "index.html",
        "master.html",
        "css/base.css",
        "css/castray.css",
        "css/docs.css",
        "css/master.css",
        "css/node.css",
        "css/parts.css",
        "js/api.js",
        "js/castray.js",
        "js/chart.js",
        "js/dialog.js",
        "js/docs.js",
        "js/docs/schema.js",
        "js/docs/send.js",
        "js/dom.js",
        "js/drafts.js",
        "js/format.js",
        "js/i18n.js",
        "js/icons.js",
        "js/live.js",
        "js/master.js",
        "js/master/board-nodes.js",
        "js/master/board.js",
        "js/master/composer.js",
        "js/master/create.js",
        "js/master/destinations.js",
        "js/master/file-names.js",
        "js/master/files.js",
        "js/master/groups.js",
        "js/master/health.js",
        "js/master/history.js",
        "js/master/key.js",
        "js/master/loaded.js",
        "js/master/meeting-row.js",
        "js/master/meetings.js",
        "js/master/messages.js",
        "js/master/node-edit.js",
        "js/master/nodes.js",
        "js/master/options.js",
        "js/master/outbox.js",
        "js/master/overview.js",
        "js/master/pending.js",
        "js/master/readiness.js",
        "js/master/relay.js",
        "js/master/rules.js",
        "js/master/send-form.js",
        "js/master/task-details.js",
        "js/master/task-row.js",
        "js/master/traffic.js",
        "js/master/uploads.js",
        "js/master/virtual.js",
        "js/master/work-row.js",
        "js/master/work.js",
        "js/meter.js",
        "js/node-health.js",
        "js/node.js",
        "js/pace.js",
        "js/parts.js",
        "js/shell.js",
        "js/texts/castray.js",
        "js/texts/destinations.js",
        "js/texts/docs.js",
        "js/texts/files.js",
        "js/texts/groups.js",
        "js/texts/history.js",
        "js/texts/master.js",
        "js/texts/messages.js",
        "js/texts/node.js",
        "js/texts/rules.js",
        "js/texts/shared.js",
        "js/texts/traffic.js",
        "js/texts/virtual.js",
        "js/texts/work.js",
        "js/views/config.js",
        "js/views/editors.js",
        "js/views/field.js",
        "js/views/found.js",
        "js/views/health.js",
        "js/views/login.js",
        "js/views/logs.js",
        "js/views/meeting-row.js",
        "js/views/meetings.js",
        "js/views/node.js",
        "js/views/notices.js",
        "js/views/traffic.js",
    }
});

/// Nothing from other sites, no inline script, no framing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// A file embedded in the program.
pub struct EmbeddedFile {
    name: &'static str,
    bytes: Cow<'static, [u8]>,
    made: OnceLock<CompressedAsset>,
}

/// Derived from a file when it is first requested.
struct CompressedAsset {
    etag: String,
    compressed: Vec<u8>,
}

impl EmbeddedFile {
    pub const fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { name, bytes: Cow::Borrowed(bytes), made: OnceLock::new() }
    }

    /// Prepares a source file.
    fn of_source(name: &'static str, text: &'static str) -> Self {
        let bytes = match name.rsplit('.').next() {
            Some("js" | "css") => Cow::Owned(strip_margins(text).into_bytes()),
            _ => Cow::Borrowed(text.as_bytes()),
        };
        Self { name, bytes, made: OnceLock::new() }
    }

    fn compressed(&self) -> &CompressedAsset {
        self.made.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Writing to memory never fails.
            let _ = encoder.write_all(&self.bytes);
            let digest =
                edge_mirror_protocol::package::Sha256::new(Sha256::digest(&self.bytes).into());
            CompressedAsset {
                etag: format!("\"{}\"", &digest.to_string()[..32]),
                compressed: encoder.finish().unwrap_or_default(),
            }
        })
    }

    pub fn answer(&'static self, asked: &HeaderMap) -> Response {
        let made = self.compressed();
        let (encoding, body) = match accepts_gzip(asked) {
            true => (Some((header::CONTENT_ENCODING, "gzip")), made.compressed.as_slice()),
            false => (None, &*self.bytes),
        };
        // Weak: the same for both encodings.
        let etag = format!("W/{}", made.etag);
        let headers = [
            (header::CONTENT_TYPE, media_type(self.name)),
            // Revalidated each time, at the cost of a 304: an upgrade of the node is seen
            // at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::ETAG, etag.as_str()),
        ];
        let known = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let current = |tag: &str| tag.trim().trim_start_matches("W/") == made.etag;
        match known.is_some_and(|tags| tags.split(',').any(current)) {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            // Static bytes need no copy.
            false => {
                let encoding = encoding.into_iter().collect::<Vec<_>>();
                (
                    headers,
                    axum::response::AppendHeaders(encoding),
                    axum::body::Bytes::from_static(body),
                )
                    .into_response()
            }
        }
    }
}

/// Removes indentation and comment lines, which are a seventh of a page; line numbers
/// stay the same.
fn strip_margins(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines = lines.map(|line| if line.starts_with("//") { "" } else { line });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// Serves `/static/…` on both.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/static/{*path}", get(file))
}

async fn file(path: Result<Path<String>, PathRejection>, asked: HeaderMap, uri: Uri) -> Response {
    match path {
        Ok(Path(path)) if has(&path) => page(&path, &asked),
        _ => not_found(uri).await,
    }
}

/// True if there is such a file.
pub fn has(name: &str) -> bool {
    FILES.iter().any(|file| file.name == name)
}

/// Returns one of the files.
pub fn page(name: &str, asked: &HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(asked),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let gzip = |coding: &str| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    };
    accepted.is_some_and(|accepted| accepted.split(',').any(gzip))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    fn names(folder: &std::path::Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => names(&entry.path(), &format!("{name}/"), found),
                false => {
                    found.insert(name);
                }
            }
        }
    }

    /// Returns the files of a page: named by it, or by one of them. `later` is about those
    /// that are imported when they are needed, and then about the files that these name.
    fn parts_of(page: &'static str, later: bool) -> BTreeSet<&'static str> {
        let (mut parts, mut unread) = (BTreeSet::from([page]), vec![page]);
        while let Some(name) = unread.pop() {
            let source = FILES.iter().find(|source| source.name == name).unwrap();
            let text = std::str::from_utf8(&source.bytes).unwrap();
            let quoted: Vec<_> = text.split('"').collect();
            let named = quoted.windows(2).filter(|pair| later || !pair[0].ends_with("import("));
            for path in named.filter_map(|pair| resolved(name, pair[1])) {
                let other = FILES.iter().map(|other| other.name).find(|other| *other == path);
                if let Some(other) = other.filter(|other| parts.insert(other)) {
                    unread.push(other);
                }
            }
        }
        parts
    }

    /// Resolves `path` against the folder of `name`.
    fn resolved(name: &str, path: &str) -> Option<String> {
        let base = url::Url::parse("file:///static/").unwrap().join(name).unwrap();
        Some(base.join(path).ok()?.path().strip_prefix("/static/")?.to_owned())
    }

    #[test]
    fn each_page_is_small_with_all_its_parts() {
        let mut used = BTreeSet::new();
        let size = |parts: &BTreeSet<&str>| -> usize {
            let files = FILES.iter().filter(|source| parts.contains(source.name));
            files.map(|source| source.bytes.len()).sum()
        };
        // Uncompressed, texts in two languages included; those that come at once.
        for page in ["index.html", "master.html"] {
            let (parts, all) = (parts_of(page, false), parts_of(page, true));
            assert!(size(&parts) < 180_000, "{page}: {} bytes", size(&parts));
            let later = &all - &parts;
            // Views that are loaded one at a time, when somebody looks at them.
            assert!(size(&later) < 150_000, "{page}, later: {} bytes", size(&later));
            used.extend(all);
        }
        // With the parts that all pages have.
        let parts = parts_of("castray.html", true);
        assert!(size(&parts) < 60_000, "castray.html: {} bytes", size(&parts));
        used.extend(parts);
        // Files that the API's page adds to the others'.
        let parts = parts_of("docs.html", true);
        let own = &parts - &used;
        assert!(size(&own) < 40_000, "docs.html: {} bytes", size(&own));
        used.extend(parts);
        let unused: Vec<_> =
            FILES.iter().map(|file| file.name).filter(|name| !used.contains(name)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn no_margin_is_part_of_a_text() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        for file in FILES.iter().filter(|file| file.name.ends_with(".js")) {
            let source = fs::read_to_string(root.join(file.name)).unwrap();
            // Nor does a template span several lines: each has both its ticks.
            let ticks = |line: &str| line.replace("\\`", "").matches('`').count();
            let odd =
                source.lines().find(|line| !line.contains("replace(") && ticks(line) % 2 == 1);
            assert_eq!(odd, None, "{}", file.name);
            assert_eq!(source.lines().count(), strip_margins(&source).lines().count());
        }
        assert_eq!(strip_margins("a {\n  // b\n  c; // d\n}\n"), "a {\n\nc; // d\n}\n");
    }

    #[test]
    fn every_file_is_embedded() {
        let mut found = BTreeSet::new();
        names(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web"), "", &mut found);
        let embedded: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(embedded, found);
        assert!(FILES.iter().all(|file| media_type(file.name) != "application/octet-stream"));
    }

    #[test]
    fn compression_is_for_who_asks_for_it() {
        let encoded = |accepted: &'static str| {
            let mut asked = HeaderMap::new();
            asked.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
            page("index.html", &asked).headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(encoded("gzip, deflate, br") && encoded("br;q=1.0, GZIP;q=0.5"));
        assert!(!encoded("identity") && !encoded("gzip;q=0"));
        assert!(!page("index.html", &HeaderMap::new()).headers().contains_key("content-encoding"));
    }

    #[test]
    fn who_has_it_already_gets_nothing() {
        let first = page("index.html", &HeaderMap::new());
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(page("index.html", &asked).status(), StatusCode::NOT_MODIFIED);
    }
}
