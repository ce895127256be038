// A list that is searched, of meetings or nodes. Thousands of entries must stay
// usable, so only the first hundred or so are in the page at all.

import { el, keyedList, setHidden, setText } from "../dom.js";
import { t } from "../i18n.js";
import { nothing } from "../parts.js";

const PAGE = 100;
// Fewer than that are looked over faster than searched.
const SEARCHED_FROM = 8;

const titleAndId = ({ title, id }) => `${title} ${id}`;

// `of`: "meetings", or what else there are texts for. `columns`: names in the head.
// `row(search)` makes an entry. `wanted()`: what may be shown, in order; `all()`: how
// many there are; `why()`: why there is none, and the parameters of the words for it.
// `textOf(item)`: what is searched.
export function foundList({ of = "meetings", columns, row, wanted, all, why, changed, textOf = titleAndId }) {
  let shown = PAGE;
  let timer = null;
  const words = t(`${of}.search`);
  const search = el("input", { type: "search", id: "search", "aria-label": words, placeholder: words, oninput: narrowed });
  const list = el("ul", { id: of, "aria-label": t(`view.${of}`) });
  const head = columnsOf(columns);
  const found = el("p.spoken", { role: "status" });
  const more = el("button.button", { id: "more", onclick: showMore });
  const none = nothing(of);
  const show = keyedList(list, ({ id }) => id, row);

  function matching() {
    const text = search.value.trim().toLowerCase();
    const items = wanted();
    return text === "" ? items : items.filter((item) => textOf(item).toLowerCase().includes(text));
  }

  function narrowed() {
    shown = PAGE;
    changed();
    clearTimeout(timer);
    timer = setTimeout(() => setText(found, t(`${of}.found`, { n: matching().length })), 600);
  }

  function showMore() {
    const from = list.children.length;
    shown += PAGE;
    changed();
    list.children[from]?.querySelector("button")?.focus();
  }

  return {
    search,
    narrowed,
    node: el("section.card.rows", { "aria-label": t(`view.${of}`) }, head, list, none.node, more, found),
    update() {
      const rows = matching();
      const left = rows.length - shown;
      setHidden(search, all() < SEARCHED_FROM && search.value === "");
      show(rows.slice(0, shown));
      setHidden(head, rows.length === 0);
      setHidden(more, left <= 0);
      setText(more, t("meetings.more", { n: Math.min(PAGE, left), left }));
      none.show(...(rows.length > 0 ? [""] : all() > 0 ? [`nomatch.${of}`] : [why()].flat()));
    },
    tick() {
      for (const entry of show.entries()) entry.tick?.();
    },
  };
}

const columnsOf = (names) =>
  el("div.meeting-columns", { "aria-hidden": "true" }, names.map((name) => el("span", t(`column.${name}`))));
