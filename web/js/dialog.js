// Questions and answers: a dialog that asks, and short notices of what has
// come of an action.

import { el, foreign } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";

const NOTICE_MS = 6000;

// Resolves to true when the asked-for thing is to be done. Escape and Cancel
// are a no; Cancel has the focus, so that a hasty Enter does no harm.
export function ask({ title, name, lines, yes, no = t("cancel"), dangerous = false }) {
  return new Promise((answer) => {
    const cancel = el("button", { type: "button", class: "button", "data-answer": "no" }, no);
    const agree = el(
      "button",
      { type: "button", class: `button ${dangerous ? "danger" : "primary"}`, "data-answer": "yes" },
      yes,
    );
    const dialog = el(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" },
      el("h2", { id: "dialog-title" }, title),
      el("div", { id: "dialog-text" },
        name && el("p", { class: "dialog-name" }, foreign(name)),
        lines.map((line) => el("p", {}, line))),
      el("div", { class: "dialog-buttons" }, cancel, agree),
    );
    const before = document.activeElement;
    cancel.addEventListener("click", () => dialog.close());
    agree.addEventListener("click", () => dialog.close("yes"));
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before?.isConnected) before.focus({ preventScroll: true });
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
    cancel.focus();
  });
}

// `kind`: good, error. Errors stay until they are closed.
export function notify(text, kind = "good") {
  const close = el(
    "button",
    { type: "button", class: "notice-close", "aria-label": t("close"), on: { click: () => notice.remove() } },
    icon("close"),
  );
  const notice = el("div", { class: "notice", "data-kind": kind }, icon(kind), el("p", {}, text), close);
  const notices = document.getElementById("notices");
  notices.replaceChildren(notice);
  if (kind === "good") setTimeout(() => notice.remove(), NOTICE_MS);
}
