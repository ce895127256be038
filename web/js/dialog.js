// Questions and answers: a dialog that asks, and short notices of what has
// come of an action.

import { el, foreign } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";

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
    el("button", { class: `button ${look}`, "data-answer": word, on: { click: () => dialog.close(word) } }, text);
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
  const close = el(
    "button.notice-close",
    { "aria-label": t("close"), on: { click: () => notice.remove() } },
    icon("close"),
  );
  const notice = el("div.notice", { "data-kind": kind, "data-tone": kind }, icon(kind), el("p", text), close);
  const notices = document.getElementById("notices");
  notices.replaceChildren(notice);
  if (kind === "good") setTimeout(() => notice.remove(), NOTICE_MS);
}
