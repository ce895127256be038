// The frame of a page: the bar, the views' names, the health sentence, the banner
// while the server is away, and the view that is shown.
//
// A view is { id, icon, operators, create(context) }; for others than
// `operators`, where it is for them alone, the login form takes its place.
// `create` gives { node, update(event), tick()?, leave()? }:
//   update  after messages of the stream: "status", "traffic", "log", "config", "notices";
//           also "shown" and, when the stream (again) stands, "connected"
//   tick    once a second, for countdowns and "ago"
//   leave   resolves to false to stay

import { login, logout, onRights, readSession, session } from "./api.js";
import { act, notify } from "./dialog.js";
import { el, setAttribute, setChildren, setHidden, setText } from "./dom.js";
import { clock } from "./format.js";
import { icon } from "./icons.js";
import { otherLanguage, setLanguage, t } from "./i18n.js";
import { button } from "./parts.js";
import { listed } from "./texts/shared.js";
import { loginForm } from "./views/login.js";

// A stream that is cut and comes back at once is not worth a banner.
const BANNER_AFTER_MS = 300;
// A browser has six connections for a server: a tab that nobody looks at
// leaves its own to others.
const HIDDEN_MS = 60_000;

const find = (id) => document.getElementById(id);

// `command(status)` makes a one-time code when it is run on the server's machine.
export async function startShell({ live, views, health, brandOf, command }) {
  const context = { live, session };
  let made = new Map(); // the views' instances, by id; forms by "login"
  let active = null; // { id, shown }
  let healthView = null;
  let settled = "#/"; // the address of the view that is shown
  let bannerTimer = null;

  const loginView = (about) =>
    loginForm({ about, command: () => command(live.status), done: () => (about ? show() : go("#/")) });

  function wanted() {
    const id = location.hash.match(/^#\/(\w*)/)?.[1] ?? "";
    if (id === "login") return { id, create: () => loginView(null) };
    const view = views.find((view) => view.id === id) ?? views[0];
    if (!view.operators || session.operator) return view;
    return { id: view.id, create: () => loginView(view.id) };
  }

  function show({ focus = false } = {}) {
    const view = wanted();
    const shown = made.get(view.id) ?? view.create(context);
    made.set(view.id, shown);
    active = { id: view.id, shown };
    setChildren(find("view"), [shown.node]);
    document.body.dataset.view = view.id;
    for (const link of find("views").querySelectorAll("a")) {
      setAttribute(link, "aria-current", link.dataset.view === view.id ? "page" : null);
    }
    update("shown");
    if (!focus) return;
    scrollTo(0, 0);
    find("view").querySelector("h1")?.focus({ preventScroll: true });
  }

  function update(event) {
    healthView.update(active.id);
    active.shown.update?.(event);
    const brand = brandOf(live.status);
    setText(find("brand-of"), brand);
    const title = listed(t(`view.${active.id}`), brand, "edge-mirror");
    if (document.title !== title) document.title = title;
  }

  const go = (hash) => (location.hash === hash ? show() : (location.hash = hash));

  async function onAddress() {
    if (takeCode()) return;
    const asked = location.hash;
    if (asked === settled || !asked.startsWith("#/")) return;
    if (active.shown.leave && wanted().id !== active.id) {
      history.replaceState(null, "", settled);
      if (!(await active.shown.leave())) return;
      history.pushState(null, "", asked);
    }
    settled = asked;
    show({ focus: true });
  }

  // "#login=CODE": the code goes out of the address before anything else, so
  // that it is in no history and on no screenshot.
  function takeCode() {
    const code = location.hash.match(/^#login=(.+)$/)?.[1];
    if (!code) return false;
    history.replaceState(null, "", "#/");
    settled = "#/";
    login(code).then(
      () => notify(t("logged.in")),
      (error) => {
        go("#/login");
        setTimeout(() => active.shown.failed?.(error));
      },
    );
    return true;
  }

  // All that says something in words: made anew for another language.
  function frame() {
    made = new Map();
    setText(find("skip"), t("skip"));
    setAttribute(find("views"), "aria-label", t("views"));
    const link = (id, drawing) => el("a", { href: `#/${id}`, "data-view": id }, icon(drawing), el("span", t(`view.${id}`)));
    setChildren(find("views"), [el("ul", views.map((view) => el("li", link(view.id, view.icon))))]);
    setAttribute(find("language"), "lang", otherLanguage());
    setChildren(find("language"), [icon("language"), el("span", t("other.language"))]);
    setAttribute(find("health-area"), "aria-label", t("health.name"));
    setChildren(find("foot"), [el("a", { href: "/api/docs" }, t("api"))]);
    healthView = health(context);
    setChildren(find("health-area"), [healthView.node]);
    showSession();
    showConnection();
  }

  function showSession() {
    const leave = async () => (await active.shown.leave?.()) !== false && act(out, logout, t("logged.out"));
    const out = button(".quiet", "logout", t("logout"), { id: "logout", "aria-label": t("logout"), onclick: leave });
    setChildren(find("session"), [
      session.how === "local" && el("span.bar-note.soft.small", { id: "who" }, t("session.local")),
      session.how === "session" && out,
      !session.operator && el("a.button.quiet", { id: "login-link", href: "#/login", "aria-label": t("login.name") },
        icon("login"), el("span", t("login.name"))),
    ]);
  }

  function showConnection() {
    document.body.dataset.connection = live.connection;
    clearTimeout(bannerTimer);
    const away = live.connection === "away";
    const say = () => {
      document.body.toggleAttribute("data-stale", away);
      const since = live.heard === null ? "" : t("away.since", { time: clock(live.heard) });
      setChildren(find("connection"), away ? [icon("sync"), el("span", `${t("away.name")}${since}`)] : []);
      setHidden(find("connection"), !away);
      if (active) healthView.update(active.id);
    };
    if (away) bannerTimer = setTimeout(say, BANNER_AFTER_MS);
    else say();
  }

  // Messages that come together are shown together.
  const queued = new Set();
  function queue({ type }) {
    if (queued.size === 0) {
      setTimeout(() => {
        const events = [...queued];
        queued.clear();
        events.forEach(update);
      });
    }
    queued.add(type);
  }

  find("language").onclick = () => {
    setLanguage(otherLanguage());
    frame();
    show();
  };
  find("skip").onclick = (event) => {
    event.preventDefault();
    find("content").focus();
  };
  addEventListener("hashchange", onAddress);
  let rest = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(rest);
    if (document.hidden) rest = setTimeout(() => live.stop(), HIDDEN_MS);
    else live.wake();
  });
  for (const event of ["status", "traffic", "sample", "log", "config", "notices"]) live.addEventListener(event, queue);
  const askWho = () => readSession().catch(() => {});
  live.addEventListener("session", askWho);
  live.addEventListener("connection", () => {
    showConnection();
    // A server that was restarted may have other rights for us.
    if (live.connection !== "live") return;
    askWho();
    queue({ type: "connected" });
  });

  await askWho();
  frame();
  // Views are made for what their visitor may do, and a stream has the
  // rights of its beginning.
  onRights(() => {
    made = new Map();
    showSession();
    show();
    live.start();
  });
  if (location.hash.startsWith("#/")) settled = location.hash;
  takeCode();
  show();
  live.start();
  setInterval(() => {
    healthView.tick?.();
    active.shown.tick?.();
  }, 1000);
}
