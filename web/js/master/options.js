// The options of the main server: those that somebody set, and where.

import { el, setHidden, setText } from "../dom.js";
import { t } from "../i18n.js";

export function optionsTable() {
  const summary = el("summary");
  const note = el("p.soft");
  const rows = el("tbody");
  const table = el("table", el("thead", el("tr",
    ["name", "value", "source"].map((column) => el("th", { scope: "col" }, t(`option.${column}`))))), rows);
  const node = el("details.options", { hidden: true }, summary, note, el("div.scroll", table));
  let shown = null;

  return {
    node,
    show(now) {
      const text = JSON.stringify(now);
      if (text === shown) return;
      shown = text;
      const set = now.options.filter(({ source }) => source !== "default");
      setHidden(node, now.options.length === 0);
      setHidden(table, set.length === 0);
      setText(summary, t("option.set", { n: set.length }));
      setText(note, now.file === null ? t("option.no_file") : t("option.file", { file: now.file }));
      rows.replaceChildren(...set.map(({ name, value, source }) => el("tr", { "data-option": name },
        el("th", { scope: "row" }, el("code", name)),
        el("td", shownValue(value)),
        el("td", t(now.waiting.includes(name) ? "option.waiting" : `option.from.${source}`)))));
    },
  };
}

function shownValue(value) {
  if (typeof value === "boolean") return t(value ? "option.on" : "option.off");
  return Array.isArray(value) ? value.join(", ") : String(value);
}
