// The login form: takes the admin token or a one-time code, and says plainly
// why it was not taken.

import { login, session } from "../api.js";
import { notify, sentenceOf } from "../dialog.js";
import { el, setAttribute, setChildren, setText } from "../dom.js";
import { duration } from "../format.js";
import { icon } from "../icons.js";
import { language, t } from "../i18n.js";
import { button, complain, view } from "../parts.js";

// `about`: id of the view that needs the login, or null. `command()` makes a
// one-time code on the server's machine. `done()`: after the login.
export function loginForm({ about, command, done }) {
  let waitUntil = 0;
  const token = el("input", {
    id: "token", type: "password", name: "token", autocomplete: "current-password",
    spellcheck: "false", autocapitalize: "off", "aria-describedby": "login-error login-help", required: true,
  });
  const wrong = el("p.wrong", { id: "login-error", role: "alert" });
  const submit = button(".primary", "login", t("login.name"), { type: "submit", id: "login" });
  const typed = el("pre");
  // Password keepers file a password under a name.
  const user = el("input", { type: "text", name: "username", value: "operator", autocomplete: "username", hidden: true });
  const shut = () => el("p.hint", { "data-tone": "error", id: "address-refused" }, icon("error"), t("login.address"));
  const form = () => [
    el("p", t(about ? "login.needed" : "login.why")),
    el("form.login-form", { novalidate: true, onsubmit: send },
      user, el("label", { for: "token" }, t("login.token")), token, wrong, submit),
    el("div.login-help.soft.small", { id: "login-help" },
      el("p", t("login.where")), typed, el("p", t("login.link"))),
  ];
  const node = view(about ?? "login",
    el("section.card.login", { "aria-label": t("login.name") }, session.refused === "address" ? shut() : form()));

  async function send(event) {
    event.preventDefault();
    if (Date.now() < waitUntil) return;
    if (token.value.trim() === "") return say(t("login.empty"));
    setAttribute(submit, "aria-disabled", "true");
    try {
      await login(token.value.trim());
      notify(t("logged.in"));
      token.value = "";
      done();
    } catch (error) {
      failed(error);
    } finally {
      setAttribute(submit, "aria-disabled", Date.now() < waitUntil ? "true" : null);
    }
  }

  function say(text) {
    complain(wrong, text);
    setAttribute(token, "aria-invalid", text ? "true" : null);
    if (text) token.focus();
  }

  function failed(error) {
    const wait = error.answer?.retry_after;
    if (error.status === 429 && wait) {
      waitUntil = Date.now() + wait * 1000;
      setAttribute(submit, "aria-disabled", "true");
      token.focus();
      return tick();
    }
    if (error.status === 403) return say(t("login.address"));
    say(error.status === 401 ? t("login.wrong") : sentenceOf(error));
  }

  // Counts down in place: said once aloud, not every second.
  function tick() {
    if (waitUntil === 0) return;
    const left = Math.ceil((waitUntil - Date.now()) / 1000);
    if (left <= 0) {
      waitUntil = 0;
      setAttribute(submit, "aria-disabled", null);
      return say("");
    }
    const line = wrong.querySelector(".countdown");
    if (line) return setText(line, duration(left));
    setChildren(wrong, [icon("wait"), el("span", t("login.slow"), " ", el("span.countdown", { "aria-live": "off" }, duration(left)), language() === "zh" ? " " : "", t("login.slow.end"))]);
  }

  return { node, failed, tick, update: () => setText(typed, command()) };
}
