// The meetings: made here, found here, a row each (meeting-row.js). A package
// that is dropped beside the rows begins a new meeting.

import { el, keyedList, setHidden, setText } from "../dom.js";
import { icon } from "../icons.js";
import { t } from "../i18n.js";
import { createDialog } from "./create.js";
import { meetingRow } from "./meeting-row.js";
import { nothing } from "./parts.js";

const PAGE = 100;
// Fewer than that are looked over faster than searched.
const SEARCHED_FROM = 8;
const ORDER = ["进行中", "未开始", "已结束"];

export function meetingsView(context) {
  const { live } = context;
  let shown = PAGE;

  const create = (file = null) => createDialog({ file, changed: update });
  const add = el("button", { type: "button", class: "button primary", id: "create", on: { click: () => create() } }, icon("add"), t("create"));
  const search = el("input", { type: "search", id: "search", "aria-label": t("meetings.search"), placeholder: t("meetings.search"), on: { input: narrowed } });
  const tools = el("div", { class: "tools" }, search);
  const list = el("ul", { class: "meetings", id: "meetings", "aria-label": t("view.meetings") });
  const head = el("div", { class: "meeting-columns", "aria-hidden": "true" },
    ["title", "state", "size", "files", "nodes"].map((name) => el("span", {}, t(`column.${name}`))));
  const found = el("p", { class: "spoken", role: "status" });
  const more = el("button", { type: "button", class: "button", id: "more", on: { click: showMore } });
  const hint = el("p", { class: "soft small" }, t("drop.hint"));
  const none = nothing("meetings");
  const node = el("div", { class: "view" },
    el("div", { class: "view-head" },
      el("h1", { tabindex: "-1" }, t("view.meetings")),
      el("div", { class: "buttons" }, add)),
    tools,
    el("section", { class: "card rows", "aria-label": t("view.meetings") }, head, list, none.node, more),
    hint,
    found);
  const show = keyedList(list, ({ id }) => id, () => meetingRow(context, { fallback: add, changed: update }));

  // Rows take what is dropped on them; without this the browser would leave
  // the page for the file.
  node.addEventListener("dragover", (event) => event.preventDefault());
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) create(file);
  });

  function narrowed() {
    shown = PAGE;
    update();
    clearTimeout(narrowed.timer);
    narrowed.timer = setTimeout(() => setText(found, t("meetings.found", { n: matching().length })), 600);
  }

  function showMore() {
    const from = list.children.length;
    shown += PAGE;
    update();
    list.children[from]?.querySelector("button")?.focus();
  }

  // What runs first, then the newest.
  function matching() {
    const words = search.value.trim().toLowerCase();
    const rank = ({ status }) => ORDER.indexOf(status);
    return live.status.meetings
      .filter(({ title, id }) => words === "" || `${title} ${id}`.toLowerCase().includes(words))
      .sort((a, b) => rank(a) - rank(b) || b.created_at - a.created_at);
  }

  function update() {
    if (live.status === null) return;
    const { meetings } = live.status;
    const rows = matching();
    setHidden(tools, meetings.length < SEARCHED_FROM && search.value === "");
    show(rows.slice(0, shown));
    setHidden(head, rows.length === 0);
    setHidden(hint, meetings.length === 0);
    setHidden(more, rows.length <= shown);
    setText(more, t("meetings.more", { n: Math.min(PAGE, rows.length - shown), left: rows.length - shown }));
    none.show(rows.length > 0 ? "" : meetings.length > 0 ? "nomatch" : "meetings");
  }

  return { node, update };
}
