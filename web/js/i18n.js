// The language of the page, and `t`, which says a text in it. The texts are
// in texts/; a page adds its own with `addTexts`.

import shared, { s } from "./texts/shared.js";

const REMEMBERED = "edge-mirror.language";
const LOCALES = { zh: "zh-CN", en: "en" };
const TEXTS = {}; // key -> [zh, en]

let current = remembered() ?? preferred();
document.documentElement.lang = LOCALES[current];

// Storage throws where the browser forbids it; the choice is then kept for
// this page only.
function remembered() {
  try {
    const language = localStorage.getItem(REMEMBERED);
    return language in LOCALES ? language : null;
  } catch {
    return null;
  }
}

function preferred() {
  const asked = navigator.languages?.length ? navigator.languages : [navigator.language];
  const known = asked.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LOCALES);
  return known ?? "en";
}

export const language = () => current;
export const otherLanguage = () => (current === "zh" ? "en" : "zh");

// For Intl. English gets day before month and 24 hours, as in the logs.
export const locale = () => (current === "zh" ? "zh-CN" : "en-GB");

export function setLanguage(chosen) {
  current = chosen;
  document.documentElement.lang = LOCALES[chosen];
  try {
    localStorage.setItem(REMEMBERED, chosen);
  } catch {
    // See `remembered`.
  }
}

// They are in groups: { group: { name: [zh, en] } } is the text "group.name".
export function addTexts(texts, group = "") {
  for (const [name, text] of Object.entries(texts)) {
    if (Array.isArray(text)) TEXTS[group + name] = text;
    else addTexts(text, `${group}${name}.`);
  }
}

addTexts(shared);

export const known = (key) => key in TEXTS;

// A missing text shows its key: better an odd word than an empty button.
export function t(key, params = {}) {
  const text = TEXTS[key]?.[current === "zh" ? 0 : 1] ?? key;
  if (typeof text === "function") return text(params);
  return text.replace(/\{(\w+)(?::([\w ]+))?\}/g, (whole, name, noun) =>
    noun ? s(params[name], noun) : params[name] ?? whole);
}

// For texts that servers send in both languages, {"zh": …, "en": …}.
export const pick = (both) => both?.[current] ?? both?.en ?? both?.zh ?? "";

// The error texts of the API are "中文 / English", or in Chinese alone where
// the contract fixes them.
export function half(detail) {
  const at = detail.indexOf(" / ");
  if (at < 0 || !/[\u4e00-\u9fff]/.test(detail.slice(0, at))) return detail;
  return current === "zh" ? detail.slice(0, at) : detail.slice(at + 3);
}
