// Small parts that the views of both pages are made of.

import { notify } from "./dialog.js";
import { el, setAttribute, setChildren, setHidden, setText } from "./dom.js";
import { count } from "./format.js";
import { icon, setIcon } from "./icons.js";
import { t } from "./i18n.js";

// A title or name inside a text: kept from turning round what follows it.
export const isolated = (text) => `\u2068${text}\u2069`;

// `look`: ".primary", ".danger", ".quiet". The words are the last child.
export const button = (look, drawing, words, attributes = {}) =>
  el(`button.button${look}`, attributes, icon(drawing), el("span", words));

// What is wrong, in place; "" for nothing. True when that is news.
export function complain(place, text) {
  if (place.textContent === text) return false;
  setChildren(place, text ? [icon("error"), el("span", text)] : []);
  return true;
}

export const view = (id, ...content) => el("div.view", titleOf(id), content);
export const titleOf = (id) => el("h1", { tabindex: "-1" }, t(`view.${id}`));

// A part of a view, under its title.
export function card(id, title, ...content) {
  return el("section.card", { "aria-labelledby": id }, el("h2", { id }, title), content);
}

// A state in colour, icon and word.
export function badge(id = null) {
  const drawn = icon("wait");
  const word = el("span");
  const node = el("span.state.badge", { id }, drawn, word);
  return {
    node,
    show([drawing, tone], text) {
      setAttribute(node, "data-tone", tone);
      setIcon(drawn, drawing);
      setText(word, text);
    },
  };
}

// One figure on the first view, and the way to the view that has more of it.
export function tile(view) {
  const [title, value, below] = [el("span.soft.small"), el("strong"), el("span.soft.small")];
  const node = el("a.card.tile", { href: `#/${view}` }, title, value, below);
  return {
    node,
    show(name, main, text, tone = null) {
      setText(title, name);
      setText(value, main);
      setText(below, text);
      setAttribute(node, "data-tone", tone);
    },
  };
}

// Texts under their names, which are `prefix.NAME` among the page's texts.
export function facts(look, prefix, names) {
  const values = Object.fromEntries(names.map((name) => [name, el("span", { "data-fact": name })]));
  const node = el("dl", { class: look }, names.map((name) =>
    el("div", el("dt", t(`${prefix}.${name}`)), el("dd", values[name]))));
  return {
    node,
    values,
    show(texts) {
      for (const [name, text] of Object.entries(texts)) setText(values[name], text);
    },
  };
}

// Filters of a list, of which one is in force, each with how many it lets through. The
// words are `prefix.NAME`, those of the group `name`.
export function filterChips(prefix, name, names, changed) {
  const chips = names.map((name) => el("button.chip", { "data-filter": name, onclick: () => choose(name) }, t(`${prefix}.${name}`), " ", el("span.number")));
  let chosen = "";

  function choose(name) {
    chosen = name;
    for (const chip of chips) setAttribute(chip, "aria-pressed", String(chip.dataset.filter === name));
  }

  choose(names[0]);
  for (const chip of chips) chip.addEventListener("click", changed);
  return {
    node: el("div.chips", { role: "group", "aria-label": t(name) }, chips),
    chosen: () => chosen,
    choose,
    show(number) {
      for (const chip of chips) setText(chip.lastChild, count(number(chip.dataset.filter)));
    },
  };
}

// What few want to see: made when it is opened, then kept up to date. `read()`
// gives name -> text; `more` stands below it.
export function disclosed(read, ...more) {
  const panel = el("div.meeting-details", { hidden: true });
  const opener = button(".quiet.disclose", "link", t("details"), {
    "data-action": "details", "aria-expanded": "false", onclick: toggle,
  });
  let list = null;
  let copier = null;

  function toggle() {
    panel.hidden = !panel.hidden;
    setAttribute(opener, "aria-expanded", String(!panel.hidden));
    update();
  }

  function fill(names) {
    list = facts("facts small", "fact", names);
    panel.append(list.node, ...more);
    const { sha256 } = list.values;
    if (!sha256) return;
    sha256.classList.add("code");
    const copy = async () => notify(await copyText(sha256));
    copier = button(".quiet", "copy", t("copy"), { "data-action": "copy", onclick: copy });
    sha256.after(copier);
  }

  function update() {
    if (panel.hidden) return;
    const texts = read();
    if (list === null) fill(Object.keys(texts));
    list.show(texts);
    if (copier) setHidden(copier, !/^\w+$/.test(texts.sha256));
  }

  return { button: opener, panel, update };
}

// An empty list's place: what to do first, with the parameters of its words.
// `why` "" while it is not empty.
export function nothing(drawing) {
  const node = el("div.empty", { hidden: true });
  return {
    node,
    show(why, params) {
      node.hidden = !why;
      if (!why || node.dataset.why === why) return;
      node.dataset.why = why;
      setChildren(node, [icon(drawing), el("strong", t(`empty.${why}`)), el("p", t(`empty.${why}.why`, params))]);
    },
  };
}

// The clipboard is for secure origins, which a server in a closed network is
// not: else the text is selected for Ctrl+C. Resolves to what to say of it.
export async function copyText(node) {
  const isField = node.select !== undefined;
  try {
    await navigator.clipboard.writeText(isField ? node.value : node.textContent);
    return t("copied");
  } catch {
    if (isField) node.select();
    else getSelection().selectAllChildren(node);
    return t(document.execCommand?.("copy") ? "copied" : "selected");
  }
}
