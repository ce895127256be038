//! Who may use what: each request that must be refused beside the one that
//! must pass. A request with a `Host` that is not loopback, or with a header
//! that only proxies add, is not one of this machine, wherever it comes from.

use std::time::Duration;

use edge_mirror_http::access::Vault;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    ScriptedMain, TestMaster, TestNode, client,
    node::free_port,
    process::{NodeFolder, Process, binary, run},
    until, zip_of,
};

const FOREIGN_HOST: (&str, &str) = ("host", "panel.test:8001");

/// Every call of a node that only operators may make, with a body that it takes.
fn operators_calls() -> Vec<(Method, &'static str, Option<Value>)> {
    vec![
        (Method::GET, "/api/config", None),
        (Method::GET, "/api/config/schema", None),
        (Method::GET, "/api/logs", None),
        (Method::POST, "/api/config", Some(json!({"syncInterval": 2}))),
        (Method::POST, "/api/config/check", Some(json!({"syncInterval": 2}))),
        (Method::POST, "/api/config/heartbeat", Some(json!(10))),
        (Method::POST, "/api/meetings/m1/sync", None),
        (Method::DELETE, "/api/meetings/gone", None),
        (Method::POST, "/api/service/stop", None),
        (Method::POST, "/api/service/start", None),
    ]
}

fn request(url: &str, (method, path, body): &(Method, &str, Option<Value>)) -> RequestBuilder {
    let request = client().request(method.clone(), format!("{url}{path}"));
    match body {
        Some(body) => request.json(body),
        None => request,
    }
}

async fn sent(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn login(url: &str, token: &str) -> RequestBuilder {
    let login = client().post(format!("{url}/api/login"));
    login.header(FOREIGN_HOST.0, FOREIGN_HOST.1).json(&json!({"token": token}))
}

/// As a browser sends it back.
fn cookie(answer: &Response) -> String {
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn node() -> (ScriptedMain, TestNode, String) {
    let main = ScriptedMain::start().await;
    main.activate("m1", "Title", &zip_of("m1"));
    let node = TestNode::of(&main.authority()).start().await;
    node.until_synced("m1").await;
    let token = node.new_token();
    (main, node, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_operates_and_others_need_the_token() {
    let (_main, node, token) = node().await;
    let url = node.url("");
    for call in operators_calls() {
        let here = sent(request(&url, &call)).await;
        let named = format!("{} {}", call.0, call.1);
        let missing = call.0 == Method::DELETE;
        assert!(here.is_success() || (missing && here == StatusCode::NOT_FOUND), "{named}: {here}");
        let refused = [
            FOREIGN_HOST,
            ("host", "localhost.evil.test"),
            ("x-forwarded-for", "10.0.0.5"),
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "10.0.0.5"),
        ];
        for (name, value) in refused {
            let (status, body) = answer(request(&url, &call).header(name, value)).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{named} with {name}: {value}");
            assert!(body["detail"].as_str().unwrap().contains("令牌"), "{body}");
        }
        let foreign = || request(&url, &call).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        for (name, value) in
            [("authorization", format!("Bearer {token}")), ("x-api-key", token.clone())]
        {
            let there = sent(foreign().header(name, value)).await;
            assert_eq!(there.is_success(), here.is_success(), "{named} with the token: {there}");
            assert_ne!(there, StatusCode::UNAUTHORIZED, "{named}");
        }
    }
    for open in ["/api/status", "/api/traffic", "/api/session", "/static/index.html"] {
        let there = client().get(node.url(open)).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        assert_eq!(sent(there).await, StatusCode::OK, "{open}");
    }
    let download = client().get(node.package_url("m1")).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
    assert_eq!(sent(download).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_protocol_version_is_no_way_around_the_login() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_main, node, _) = node().await;
    for (version, expected) in [("1.1", "200 OK"), ("1.0", "401 Unauthorized")] {
        let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
        // As an old proxy asks those behind it.
        let asked = format!(
            "GET /api/config HTTP/{version}\r\nHost: {}\r\nConnection: close\r\n\r\n",
            node.address()
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.lines().next().unwrap().ends_with(expected), "{version}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_a_cookie_that_logging_out_ends_for_good() {
    let (_main, node, token) = node().await;
    let url = node.url("");
    let wrong = login(&url, "wrong").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers().contains_key(header::SET_COOKIE));
    let right = login(&url, &token).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::OK);
    let set = right.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(part), "{part} is missing in {set}");
    }
    assert!(!set.contains("Secure"), "plain HTTP would never send it back: {set}");
    let (cookie, other) = (cookie(&right), cookie(&login(&url, &token).send().await.unwrap()));
    let with = |cookie: &str, path: &str| {
        let request = client().get(node.url(path)).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        request.header(header::COOKIE, format!("theme=dark; {cookie}"))
    };
    let (_, session) = answer(with(&cookie, "/api/session")).await;
    assert_eq!((&session["operator"], &session["how"]), (&json!(true), &json!("session")));
    assert_eq!(sent(with(&cookie, "/api/config")).await, StatusCode::OK);
    // In the middle of what proves it.
    let mut forged = cookie.clone();
    let at = forged.len() - 20;
    let letter = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, letter);
    assert_eq!(sent(with(&forged, "/api/config")).await, StatusCode::UNAUTHORIZED);
    let logout = client().post(node.url("/api/logout")).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
    assert_eq!(sent(logout.header(header::COOKIE, &cookie)).await, StatusCode::OK);
    assert_eq!(sent(with(&cookie, "/api/config")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(sent(with(&other, "/api/config")).await, StatusCode::OK, "another browser stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_ends_logins_and_a_link_works_once_while_the_node_runs() {
    let (_main, node, token) = node().await;
    let url = node.url("");
    let vault = Vault::at(Vault::path_beside(&node.config_path()));
    let code = vault.new_code().unwrap().unwrap();
    assert_eq!(sent(login(&url, &code)).await, StatusCode::OK);
    assert_eq!(sent(login(&url, &code)).await, StatusCode::UNAUTHORIZED);
    let bearer = |token: &str| {
        let request = client().get(node.url("/api/config")).bearer_auth(token);
        request.header(FOREIGN_HOST.0, FOREIGN_HOST.1)
    };
    let cookie = cookie(&login(&url, &token).send().await.unwrap());
    let cookied = || {
        let request = client().get(node.url("/api/config")).header(header::COOKIE, &cookie);
        request.header(FOREIGN_HOST.0, FOREIGN_HOST.1)
    };
    assert_eq!(sent(bearer(&code)).await, StatusCode::UNAUTHORIZED, "a code is no token");
    assert_eq!(
        (sent(bearer(&token)).await, sent(cookied()).await),
        (StatusCode::OK, StatusCode::OK)
    );
    let new = vault.replace_token().unwrap().token;
    assert_eq!(sent(cookied()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(sent(bearer(&token)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(sent(bearer(&new)).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_tries_slow_an_address_down_and_nobody_else() {
    let main = ScriptedMain::start().await;
    let behind_a_proxy = json!({"security": {"trustedProxies": ["127.0.0.1"]}});
    let node = TestNode::of(&main.authority()).with(behind_a_proxy).start().await;
    let (url, token) = (node.url(""), node.new_token());
    let from = |address: &str, token: &str| login(&url, token).header("x-forwarded-for", address);
    let logged_in = cookie(&from("10.0.0.5", &token).send().await.unwrap());
    for _ in 0..5 {
        assert_eq!(sent(from("10.0.0.5", "wrong")).await, StatusCode::UNAUTHORIZED);
    }
    let slowed = from("10.0.0.5", &token).send().await.unwrap();
    assert_eq!(slowed.status(), StatusCode::TOO_MANY_REQUESTS);
    let after: u64 = slowed.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&after));
    assert_eq!(slowed.json::<Value>().await.unwrap()["retry_after"], after);
    let config = || client().get(node.url("/api/config")).header("x-forwarded-for", "10.0.0.5");
    assert_eq!(sent(config().bearer_auth(&token)).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(sent(config().header(header::COOKIE, logged_in)).await, StatusCode::OK);
    assert_eq!(sent(from("10.0.0.6", &token)).await, StatusCode::OK);
    let back = async || (sent(from("10.0.0.5", &token)).await == StatusCode::OK).then_some(());
    until("the end of the wait", back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_addresses_may_manage_and_proxies_are_believed_only_when_named() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let token = node.new_token();
    let from = |address: &str| {
        let request = client().get(node.url("/api/config")).bearer_auth(&token);
        request.header("x-forwarded-for", address)
    };
    node.configure(json!({"security": {"allowFrom": ["10.1.0.0/16"]}})).await;
    assert_eq!(sent(from("10.1.2.3")).await, StatusCode::FORBIDDEN, "said by nobody we trust");
    node.configure(json!({"security": {"trustedProxies": ["127.0.0.1"]}})).await;
    assert_eq!(sent(from("10.1.2.3")).await, StatusCode::OK);
    assert_eq!(sent(from("10.2.0.1")).await, StatusCode::FORBIDDEN);
    assert_eq!(sent(from("10.1.2.3, 10.2.0.1")).await, StatusCode::FORBIDDEN);
    let login = login(&node.url(""), &token).header("x-forwarded-for", "10.2.0.1");
    assert_eq!(sent(login).await, StatusCode::FORBIDDEN);
    let asked = client().get(node.url("/api/session")).header("x-forwarded-for", "10.2.0.1");
    assert_eq!(answer(asked).await.1["refused"], "address");
    let status = client().get(node.url("/api/status")).header("x-forwarded-for", "10.2.0.1");
    assert_eq!(sent(status).await, StatusCode::OK);

    let shut_out = |path: &str| {
        let patch = json!({"security": {"allowFrom": ["10.9.0.0/16"]}});
        let request = client().post(node.url(path)).bearer_auth(&token).json(&patch);
        request.header("x-forwarded-for", "10.1.2.3")
    };
    let (status, refusal) = answer(shut_out("/api/config")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refusal["problems"][0]["key"], "security.allowFrom", "{refusal}");
    let (_, checked) = answer(shut_out("/api/config/check")).await;
    assert_eq!(checked["problems"], refusal["problems"]);
    node.configure(json!({"security": {"allowFrom": ["10.9.0.0/16"]}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_at_a_trusted_proxy_makes_the_cookie_secure() {
    let main = ScriptedMain::start().await;
    let behind_a_proxy = json!({"security": {"trustedProxies": ["127.0.0.1"]}});
    let node = TestNode::of(&main.authority()).with(behind_a_proxy).start().await;
    for (scheme, secure) in [("https", true), ("http", false)] {
        let login = login(&node.url(""), &node.new_token()).header("x-forwarded-proto", scheme);
        let answer = login.header("x-forwarded-for", "10.0.0.5").send().await.unwrap();
        let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert_eq!(set.contains("; Secure"), secure, "{set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_openness_can_be_had_and_is_warned_about() {
    let (_main, node, _) = node().await;
    let foreign = || {
        let patch = json!({"syncInterval": 3});
        client().post(node.url("/api/config")).json(&patch).header(FOREIGN_HOST.0, FOREIGN_HOST.1)
    };
    assert_eq!(sent(foreign()).await, StatusCode::UNAUTHORIZED);
    node.configure(json!({"security": {"open": true}})).await;
    assert_eq!(sent(foreign()).await, StatusCode::OK);
    assert_eq!(sent(foreign().header("origin", "http://evil.test")).await, StatusCode::FORBIDDEN);
    let status = node.status().await;
    let codes = status["problems"].as_array().unwrap().iter().map(|problem| &problem["code"]);
    assert!(codes.into_iter().any(|code| code == "open_access"), "{status}");
    assert!(status["warnings"][0].as_str().unwrap().contains("security.open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing_and_read_only_what_is_open() {
    let (_main, node, token) = node().await;
    let url = node.url("");
    for call in operators_calls().into_iter().filter(|call| call.0 != Method::GET) {
        for (name, value) in [
            ("origin", "http://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            // The browser would even add what proves the rights.
            let request = request(&url, &call).header(name, value).bearer_auth(&token);
            assert_eq!(sent(request).await, StatusCode::FORBIDDEN, "{} {name}: {value}", call.1);
        }
    }
    let login = client().post(node.url("/api/login")).header("origin", "http://evil.test");
    assert_eq!(sent(login.json(&json!({"token": token}))).await, StatusCode::FORBIDDEN);
    let own = client().post(node.url("/api/config")).json(&json!({"syncInterval": 5}));
    assert_eq!(sent(own.header("origin", &url)).await, StatusCode::OK);

    for (path, readable) in [
        ("/api/status", true),
        ("/api/v1/meetings/m1/download-package", true),
        ("/api/config", false),
        ("/api/logs", false),
        ("/api/session", false),
        ("/api/traffic", false),
    ] {
        let asked = client().get(node.url(path)).header("origin", "http://evil.test");
        let answer = asked.send().await.unwrap();
        let allowed = answer.headers().contains_key("access-control-allow-origin");
        assert_eq!(allowed, readable, "{path}");
        // As a page asks before it sends a range.
        let preflight = client()
            .request(Method::OPTIONS, node.url(path))
            .header("origin", "http://evil.test")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "range");
        let answer = preflight.send().await.unwrap();
        let allowed = answer.headers().contains_key("access-control-allow-headers");
        assert_eq!((answer.status().is_success(), allowed), (readable, readable), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_needs_its_content_type_but_for_the_calls_of_old_tools() {
    let (_main, node, token) = node().await;
    let post = |path: &str, body: &'static str| client().post(node.url(path)).body(body);
    let unsupported = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    assert_eq!(sent(post("/api/config/check", "{}")).await, unsupported);
    assert_eq!(sent(post("/api/login", "{}")).await, unsupported);
    let text = post("/api/config", "{}").header("content-type", "text/plain");
    assert_eq!(sent(text).await, StatusCode::FORBIDDEN, "only forms send that");
    let json = post("/api/config", "{}").header("content-type", "application/json; charset=utf-8");
    assert_eq!(sent(json).await, StatusCode::OK);
    for (path, body) in [("/api/config/heartbeat", "20"), ("/api/config", "{}")] {
        assert_eq!(sent(post(path, body)).await, StatusCode::OK);
        let foreign = || post(path, body).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        assert_eq!(sent(foreign()).await, StatusCode::UNAUTHORIZED);
        assert_eq!(sent(foreign().bearer_auth(&token)).await, StatusCode::OK);
        let page = post(path, body).header("origin", "http://evil.test");
        assert_eq!(sent(page.bearer_auth(&token)).await, StatusCode::FORBIDDEN);
        let from = |page: String| sent(post(path, body).header("referer", page));
        assert_eq!(from("http://evil.test/".to_owned()).await, StatusCode::FORBIDDEN);
        assert_eq!(from(node.url("/static/index.html")).await, StatusCode::OK);
        // As `curl -d` does, and a form of a page that hides where it is.
        let form = post(path, body).header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(sent(form).await, StatusCode::FORBIDDEN);
    }
    let form = post("/api/config/heartbeat", "20").header("content-type", "text/plain");
    assert_eq!(sent(form.bearer_auth(&token)).await, StatusCode::OK, "no form sends the token");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_browsers_to_be_careful() {
    let (_main, node, _) = node().await;
    for path in ["/api/status", "/api/config", "/nothing", "/static/index.html"] {
        let answer = client().get(node.url(path)).send().await.unwrap();
        let field = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(field("referrer-policy"), "no-referrer", "{path}");
        let policy = field("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_servers_key_is_sent_and_never_shown() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let node = folder.start().await;
    let key = "a-very-secret-key";
    node.configure(json!({"security": {"mainServerKey": key}})).await;
    let told = async || {
        let beats = main.asked("/nodes/heartbeat");
        let sent = beats.last()?.headers.get("x-api-key").cloned();
        (sent.as_ref().and_then(|sent| sent.to_str().ok()) == Some(key)).then_some(())
    };
    until("a heartbeat with the key", told).await;
    let config = async || -> Value {
        client().get(node.url("/api/config")).send().await.unwrap().json().await.unwrap()
    };
    let shown = config().await;
    assert_eq!(shown["security"]["mainServerKey"], "********");
    // What is shown can be sent back and changes nothing.
    node.configure(shown.clone()).await;
    assert_eq!(folder.config()["security"]["mainServerKey"], key);
    let bad = json!({"security": {"mainServerKey": "密 short"}});
    let refused = client().post(node.url("/api/config")).json(&bad).send().await.unwrap();
    let refused = refused.text().await.unwrap();
    assert!(refused.contains("security.mainServerKey") && !refused.contains("short"), "{refused}");
    node.configure(json!({"security": {"mainServerKey": null}})).await;
    assert_eq!(config().await["security"]["mainServerKey"], Value::Null);
    assert!(!node.process.errors.get().contains(key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_that_listens_here_alone_has_its_link_here() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let (data, port) = (data.path().to_str().unwrap(), port.to_string());
    let mut command = binary();
    command.args(["master", "--host", "127.0.0.1", "--port", &port, "--data", data]);
    let mut main = Process::spawn(command);
    let address = main.until_listening().await;
    let page = format!("http://{address}/");
    until("its page is told at each start", async || {
        main.errors.get().contains(&format!("its page is at {page}")).then_some(())
    })
    .await;
    let (code, output, errors) = run(["token", "--data", data, "--port", &port]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(output.contains(&format!("{page}#login=")), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_shows_a_link_once_and_the_token_command_makes_others() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority());
    let mut node = folder.start().await;
    let secret_in = |text: &str| -> Option<String> {
        let (_, after) = text.split_once("/static/index.html#login=")?;
        Some(after.split_whitespace().next()?.to_owned())
    };
    let shown = async || secret_in(&node.process.errors.get());
    let code = until("the link", shown).await;
    let logs = client().get(node.url("/api/logs")).send().await.unwrap().text().await.unwrap();
    assert!(!logs.contains(&code), "the panel shows it to whoever looks over a shoulder");
    let with_code = || {
        let asked = client().get(node.url("/api/config")).bearer_auth(&code);
        asked.header(FOREIGN_HOST.0, FOREIGN_HOST.1)
    };
    assert_eq!(sent(with_code()).await, StatusCode::UNAUTHORIZED, "it is not the token");
    assert_eq!(sent(login(&node.url(""), &code)).await, StatusCode::OK);
    assert_eq!(sent(login(&node.url(""), &code)).await, StatusCode::UNAUTHORIZED, "once");
    let secrets = std::fs::read_to_string(folder.path().join("node_config.access.json")).unwrap();
    assert!(!secrets.contains(&code));

    let config = folder.config_path();
    let config = config.to_str().unwrap();
    let (code, output, errors) = run(["token", "--config", config]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let one_time = secret_in(&output).unwrap();
    assert_eq!(sent(login(&node.url(""), &one_time)).await, StatusCode::OK);
    assert_eq!(sent(login(&node.url(""), &one_time)).await, StatusCode::UNAUTHORIZED);
    let (code, output, errors) = run(["token", "--new", "--config", config]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let new = secret_in(&output).unwrap();
    assert!(output.lines().any(|line| line.trim() == new), "for programs: {output}");
    assert_eq!(sent(login(&node.url(""), &new)).await, StatusCode::OK);
    assert!(!node.process.errors.get().contains(&new));

    node.process.signal("TERM");
    node.process.until_ended().await;
    let again = folder.start().await;
    assert_eq!(sent(login(&again.url(""), &new)).await, StatusCode::OK);
    assert_eq!(secret_in(&again.process.errors.get()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_refused_or_accepted_is_a_line_with_the_address() {
    let main = ScriptedMain::start().await;
    let folder = NodeFolder::of(&main.authority())
        .with(json!({"security": {"trustedProxies": ["127.0.0.1"]}}));
    let node = folder.start().await;
    let stop = || client().post(node.url("/api/service/stop"));
    let refused = [
        (
            stop().header("x-forwarded-for", "10.0.0.5"),
            "POST /api/service/stop from 10.0.0.5 refused: not logged in",
        ),
        (
            stop().header("x-forwarded-for", "10.0.0.6").bearer_auth("x"),
            "POST /api/service/stop from 10.0.0.6 refused: wrong token or code",
        ),
        (
            stop().header("origin", "http://evil.test"),
            "POST /api/service/stop from 127.0.0.1 refused: sent by a page of another site, or as a form sends it",
        ),
        (
            login(&node.url(""), "x").header("x-forwarded-for", "10.0.0.7"),
            "POST /api/login from 10.0.0.7 refused: wrong token or code",
        ),
    ];
    for (request, line) in refused {
        assert!(!sent(request).await.is_success());
        let count =
            async || Some(node.process.errors.get().matches(line).count()).filter(|n| *n > 0);
        assert_eq!(until(line, count).await, 1);
    }
    assert_eq!(sent(stop()).await, StatusCode::OK);
    let line = "POST /api/service/stop by 127.0.0.1 (this machine): 200";
    until(line, async || node.process.errors.get().contains(line).then_some(())).await;
    let before = node.process.errors.get().lines().count();
    client().get(node.url("/api/config")).send().await.unwrap();
    client().post(node.url("/api/service/start")).send().await.unwrap();
    let line = "POST /api/service/start by";
    until(line, async || node.process.errors.get().contains(line).then_some(())).await;
    let after = node.process.errors.get();
    assert!(!after.lines().skip(before).any(|line| line.contains("GET ")), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_servers_management_is_for_operators_and_the_rest_stays_open() {
    let master = TestMaster::build().start().await;
    let token = master.new_token();
    let zip = zip_of("m");
    let calls = |url: &dyn Fn(&str) -> String| {
        let json = |path: &str, body: Value| client().post(url(path)).json(&body);
        vec![
            json("/api/v1/meetings", json!({"id": "m", "title": "T"})),
            client().put(url("/api/v1/meetings/m/package")).body(zip.clone()),
            client().post(url("/api/v1/meetings/m/start")),
            client().post(url("/api/v1/meetings/m/end")),
            client().delete(url("/api/v1/meetings/m")),
            json("/api/v1/nodes/key", json!({})),
            client().delete(url("/api/v1/nodes/key")),
        ]
    };
    let url = |path: &str| master.url(path);
    for call in calls(&url) {
        let refused = call.header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        assert_eq!(sent(refused).await, StatusCode::UNAUTHORIZED);
    }
    for call in calls(&url) {
        let foreign = call.header("sec-fetch-site", "cross-site").bearer_auth(&token);
        assert_eq!(sent(foreign).await, StatusCode::FORBIDDEN);
    }
    for call in calls(&url) {
        let accepted = call.header(FOREIGN_HOST.0, FOREIGN_HOST.1).bearer_auth(&token);
        let accepted = sent(accepted).await;
        assert!(accepted.is_success(), "{accepted}");
    }
    for call in calls(&url) {
        let local = sent(call).await;
        assert!(local.is_success(), "{local}");
    }
    let register = json!({"node_id": "n", "address": "127.0.0.1:9", "status": "online"});
    let register = client().post(url("/api/v1/nodes/register")).json(&register);
    assert_eq!(sent(register.header(FOREIGN_HOST.0, FOREIGN_HOST.1)).await, StatusCode::OK);
    for open in ["/", "/api/v1/meetings", "/api/v1/meetings/status/node", "/api/v1/nodes/list"] {
        let asked = client().get(url(open)).header(FOREIGN_HOST.0, FOREIGN_HOST.1);
        assert_eq!(sent(asked).await, StatusCode::OK, "{open}");
    }
    let untyped = client().post(url("/api/v1/meetings")).body(r#"{"title": "T"}"#);
    assert_eq!(sent(untyped).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_server_can_ask_a_key_of_its_nodes() {
    let master = TestMaster::build().start().await;
    let set = client().post(master.url("/api/v1/nodes/key")).json(&json!({"key": "short"}));
    assert_eq!(sent(set).await, StatusCode::BAD_REQUEST);
    let (_, made) = answer(client().post(master.url("/api/v1/nodes/key")).json(&json!({}))).await;
    let key = made["key"].as_str().unwrap();
    let says = json!({
        "node_id": "n", "address": "127.0.0.1:9", "status": "online",
        "active_meetings": [], "synced_meetings": [],
    });
    for call in ["register", "heartbeat", "unregister"] {
        let post = || client().post(master.url(&format!("/api/v1/nodes/{call}"))).json(&says);
        assert_eq!(sent(post()).await, StatusCode::UNAUTHORIZED, "{call}");
        assert_eq!(sent(post().header("x-api-key", "wrong")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(sent(post().header("x-api-key", key)).await, StatusCode::OK, "{call}");
    }
    let node = TestNode::of(&master.authority()).start().await;
    let refused = async || {
        let status = node.status().await;
        (status["problems"][0]["code"] == "main_server_unreachable").then_some(status)
    };
    let status = until("the refusal", refused).await;
    assert_eq!(status["problems"][0]["cause"], "key", "{status}");
    node.configure(json!({"security": {"mainServerKey": key}})).await;
    until("the registration", async || (node.status().await["registered"] == true).then_some(()))
        .await;
    assert_eq!(sent(client().delete(master.url("/api/v1/nodes/key"))).await, StatusCode::OK);
    let open = client().post(master.url("/api/v1/nodes/heartbeat")).json(&says);
    assert_eq!(sent(open).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_or_huge_body_is_refused_before_it_costs_anything() {
    let (_main, node, _) = node().await;
    let huge = vec![b' '; (1 << 20) + 1];
    let post = |path: &str| {
        let request = client().post(node.url(path)).header("content-type", "application/json");
        request.body(huge.clone())
    };
    for path in ["/api/config", "/api/config/check", "/api/config/heartbeat", "/api/login"] {
        let (status, body) = answer(post(path)).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(body["detail"].as_str().unwrap().contains("字节"), "{body}");
    }
    // Who may not change anything is told so, not that his body is too large.
    let stranger = post("/api/config").header(FOREIGN_HOST.0, FOREIGN_HOST.1);
    assert_eq!(answer(stranger).await.0, StatusCode::UNAUTHORIZED);
    let header = client().get(node.url("/api/status")).header("x-long", "y".repeat(1 << 20));
    assert_eq!(sent(header).await, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let quick = client().get(node.url("/api/status")).timeout(Duration::from_secs(5));
    assert_eq!(sent(quick).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_slowly_is_told_so_and_hung_up_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_main, node, _) = node().await;
    let mut stream = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let asked = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 40\r\n\r\n{";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("请求体发送过慢") && text.contains("connection: close"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_are_not_fewer_than_they_are() {
    let (_main, node, token) = node().await;
    let guess = || async {
        let session = client().get(node.url("/api/session")).bearer_auth("wrong");
        sent(session.header(FOREIGN_HOST.0, FOREIGN_HOST.1)).await
    };
    futures_util::future::join_all((0..60).map(|_| guess())).await;
    // One in the time that the five free ones take; the others were not looked at.
    let right = login(&node.url(""), &token).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = right.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait <= 3, "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_its_proxy_does_not_name_is_not_taken_for_the_proxy() {
    let main = ScriptedMain::start().await;
    let rules = json!({"security": {"trustedProxies": ["127.0.0.1"], "allowFrom": ["127.0.0.1"]}});
    let node = TestNode::of(&main.authority()).with(rules).start().await;
    let asked = |forwarded: &[u8]| {
        let value = header::HeaderValue::from_bytes(forwarded).unwrap();
        let request = client().get(node.url("/api/config")).bearer_auth(node.new_token());
        request.header("x-forwarded-for", value)
    };
    assert_eq!(sent(asked(b"127.0.0.1")).await, StatusCode::OK);
    assert_eq!(sent(asked(b"10.9.9.9")).await, StatusCode::FORBIDDEN);
    for hidden in [&b"\xe9, 10.9.9.9"[..], b"10.9.9.9, \xe9", b"unknown", b""] {
        assert_eq!(sent(asked(hidden)).await, StatusCode::FORBIDDEN, "{hidden:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_key_is_not_for_others_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let mode = || std::fs::metadata(node.config_path()).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(node.config_path(), PermissionsExt::from_mode(0o644)).unwrap();
    node.configure(json!({"syncInterval": 2})).await;
    assert_eq!(mode(), 0o644);
    node.configure(json!({"security": {"mainServerKey": "a-very-secret-key"}})).await;
    assert_eq!(mode(), 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_hangs_holds_up_nothing_else() {
    let (_main, node, _) = node().await;
    let pipe = node.config_path().with_file_name("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let patch = json!({"logging": {"fileEnabled": true, "filePath": pipe}});
    let (status, refused) = node.post("/api/config", patch).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["detail"].as_str().unwrap().contains("no log of this program"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_can_be_made_to_log_in_like_others() {
    let main = ScriptedMain::start().await;
    let node = TestNode::of(&main.authority()).start().await;
    let config = || client().get(node.url("/api/config"));
    assert_eq!(sent(config()).await, StatusCode::OK);
    node.configure(json!({"security": {"trustLocal": false}})).await;
    assert_eq!(sent(config()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(sent(config().bearer_auth(node.new_token())).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_code_that_can_not_be_crossed_out_lets_nobody_in_and_is_no_wrong_try() {
    let (_main, node, token) = node().await;
    let (url, access) = (node.url(""), Vault::path_beside(&node.config_path()));
    let good = std::fs::read(&access).unwrap();
    std::fs::write(&access, "{").unwrap();
    for _ in 0..6 {
        assert_eq!(sent(login(&url, &token)).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    let told = async || {
        let problems = node.status().await["problems"].clone();
        (problems[0]["code"] == "login_broken").then_some(())
    };
    until("the word of it", told).await;
    assert_eq!(node.download("m1").await.0, StatusCode::OK);
    std::fs::write(&access, good).unwrap();
    assert_eq!(sent(login(&url, &token)).await, StatusCode::OK);
}
