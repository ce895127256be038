// Small parts that several views of the main server's page have.

import { el, setAttribute, setText } from "../dom.js";
import { icon, setIcon } from "../icons.js";
import { t } from "../i18n.js";

// A title or name inside a text: kept from turning round what follows it.
export const isolated = (text) => `\u2068${text}\u2069`;

// A state in colour, icon and word.
export function badge(id = null) {
  const drawn = icon("wait");
  const word = el("span", {});
  const node = el("span", { class: "state badge", id }, drawn, word);
  return {
    node,
    show([drawing, tone], text) {
      setAttribute(node, "data-tone", tone);
      setIcon(drawn, drawing);
      setText(word, text);
    },
  };
}

// Figures of a row: columns on wide screens, named on phones.
export function rowFacts(names) {
  const facts = Object.fromEntries(names.map((name) => [name, el("dd", { "data-fact": name })]));
  const node = el("dl", { class: "meeting-facts" }, names.map((name) =>
    el("div", {}, el("dt", {}, t(`column.${name}`)), facts[name])));
  return { node, show: (name, text) => setText(facts[name], text) };
}

// What few want to see: kept up to date while it is open. `read()` gives
// name -> text.
export function disclosed(read) {
  const panel = el("dl", { class: "facts small meeting-details", hidden: true });
  const button = el(
    "button",
    { type: "button", class: "button quiet disclose", "data-action": "details", "aria-expanded": "false", on: { click: toggle } },
    icon("link"),
    t("details"),
  );
  const values = new Map();

  function toggle() {
    panel.hidden = !panel.hidden;
    setAttribute(button, "aria-expanded", String(!panel.hidden));
    update();
  }

  function update() {
    if (panel.hidden) return;
    for (const [name, text] of Object.entries(read())) {
      if (!values.has(name)) {
        values.set(name, el("dd", { "data-fact": name }));
        panel.append(el("dt", {}, t(`fact.${name}`)), values.get(name));
      }
      setText(values.get(name), text);
    }
  }

  return { button, panel, update };
}

// An empty list's place: what to do first. Made anew only for another reason.
export function nothing(drawing) {
  const node = el("div", { class: "empty" });
  return {
    node,
    show(why) {
      node.hidden = !why;
      if (!why || node.dataset.why === why) return;
      node.dataset.why = why;
      node.replaceChildren(icon(drawing), el("strong", {}, t(`empty.${why}`)), el("p", {}, t(`empty.${why}.why`)));
    },
  };
}

// A dialog with content of its own; gone once it is closed.
export function openDialog(title, ...content) {
  const heading = el("h2", { id: "dialog-title" }, title);
  const dialog = el("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, heading, ...content);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// The clipboard is only open to pages of secure origins; else the text is
// selected for Ctrl+C. Resolves to what is to be said of it.
export async function copyText(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return t("copied");
  } catch {
    getSelection().selectAllChildren(node);
    return t(document.execCommand?.("copy") ? "copied" : "selected");
  }
}
