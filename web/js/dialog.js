// Questions and answers: a dialog that asks, what a button says carried out,
// and a short notice of what has come of it.

import { CallFailed } from "./api.js";
import { el, foreign } from "./dom.js";
import { icon } from "./icons.js";
import { half, t } from "./i18n.js";

const NOTICE_MS = 6000;

// With content of its own; gone once it is closed.
export function openDialog(title, ...content) {
  const heading = el("h2", { id: "dialog-title" }, title);
  const dialog = el("dialog.dialog", { "aria-labelledby": "dialog-title" }, heading, ...content);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// Resolves to true when the asked-for thing is to be done. Escape and Cancel
// are a no; Cancel has the focus, so that a hasty Enter does no harm.
export function ask({ title, name, lines, yes, no = t("cancel"), dangerous = false }) {
  const answer = (word, look, text) =>
    el("button", { class: `button ${look}`, "data-answer": word, onclick: () => dialog.close(word) }, text);
  const cancel = answer("no", "", no);
  const dialog = openDialog(
    title,
    el("div", { id: "dialog-text" }, name && el("p.dialog-name", foreign(name)), lines.map((line) => el("p", line))),
    el("div.dialog-buttons", cancel, answer("yes", dangerous ? "danger" : "primary", yes)),
  );
  dialog.setAttribute("aria-describedby", "dialog-text");
  cancel.focus();
  return new Promise((answered) =>
    dialog.addEventListener("close", () => answered(dialog.returnValue === "yes")));
}

// `kind`: good, error. Errors stay until they are closed.
export function notify(text, kind = "good") {
  const click = () => notice.remove();
  const close = el("button.notice-close", { "aria-label": t("close"), onclick: click }, icon("close"));
  const notice = el("div.notice", { "data-tone": kind }, icon(kind), el("p", text), close);
  document.getElementById("notices").replaceChildren(notice);
  if (kind === "good") setTimeout(() => notice.remove(), NOTICE_MS);
}

// What was said of an earlier try must not stand over one that failed.
export const unsay = () => document.getElementById("notices").replaceChildren();

export function sentenceOf(error) {
  if (!(error instanceof CallFailed)) throw error;
  if (error.status === 0) return t("error.gone");
  if (error.status === 401) return t("error.login");
  return half(error.detail) || t("error.status", { status: error.status });
}

// Resolves to the answer, or to null when it failed (and that was said).
// A busy button is not disabled: that would take the focus from it.
export async function act(button, work, done = null) {
  if (button.getAttribute("aria-disabled") === "true") return null;
  button.setAttribute("aria-disabled", "true");
  try {
    const answer = (await work()) ?? {};
    if (done) notify(done);
    return answer;
  } catch (error) {
    notify(sentenceOf(error), "error");
    return null;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
