// The meetings: searched and filtered here, a row each (meeting-row.js).
// Thousands of them must stay usable, so only the first hundred or so are in
// the page at all.

import { el, keyedList, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { count } from "../format.js";
import { icon } from "../icons.js";
import { locale, t } from "../i18n.js";
import { isReady, isUnderWay } from "../node-health.js";
import { meetingRow } from "./meeting-row.js";

const PAGE = 100;
// Fewer than that are looked over faster than searched.
const SEARCHED_FROM = 8;

const FILTERS = {
  all: () => true,
  failing: ({ state }) => state === "failing",
  busy: (meeting) => isUnderWay(meeting) || meeting.state === "waiting",
  ready: isReady,
  ended: ({ active }) => !active,
};

export function meetingsView(context) {
  const { live } = context;
  let filter = "all";
  let shown = PAGE;
  let order = [];
  let orderOf = "";

  const search = el("input", { type: "search", id: "search", "aria-label": t("meetings.search"), placeholder: t("meetings.search"), on: { input: narrowed } });
  const filters = new Map(Object.keys(FILTERS).map((name) => {
    const number = el("span", { class: "number" });
    const choose = () => {
      filter = name;
      narrowed();
    };
    const button = el("button", { type: "button", class: "chip", "data-filter": name, on: { click: choose } }, t(`filter.${name}`), " ", number);
    return [name, { button, number }];
  }));
  const tools = el("div", { class: "tools" },
    el("div", { class: "chips", role: "group", "aria-label": t("filter") }, [...filters.values()].map(({ button }) => button)),
    search);
  const list = el("ul", { class: "meetings", id: "meetings", "aria-label": t("view.meetings") });
  const head = el("div", { class: "meeting-columns", "aria-hidden": "true" },
    ["title", "state", "size", "downloads", "served"].map((name) => el("span", {}, t(`column.${name}`))));
  const found = el("p", { class: "spoken", role: "status" });
  const more = el("button", { type: "button", class: "button", id: "more" });
  const none = el("div", { class: "empty" });
  const node = el("div", { class: "view" },
    el("h1", { tabindex: "-1" }, t("view.meetings")),
    tools,
    el("section", { class: "card rows", "aria-label": t("view.meetings") }, head, list, none, more),
    found);
  const show = keyedList(list, ({ id }) => id, () => meetingRow(context, search));

  more.addEventListener("click", () => {
    const from = list.children.length;
    shown += PAGE;
    update();
    list.children[from]?.querySelector("button")?.focus();
  });

  function narrowed() {
    shown = PAGE;
    update();
    clearTimeout(narrowed.timer);
    narrowed.timer = setTimeout(() => setText(found, t("meetings.found", { n: matching().length })), 600);
  }

  // By what stays: rows must not jump about while packages come and fail.
  // Sorting thousands takes a while and is mostly not needed.
  function inOrder(meetings) {
    const of = meetings.map(({ id, active }) => `${active} ${id}`).join("\n");
    if (of !== orderOf) {
      const { compare } = new Intl.Collator(locale(), { numeric: true });
      order = meetings.map((_, index) => index);
      order.sort((a, b) => meetings[b].active - meetings[a].active || compare(meetings[a].id, meetings[b].id));
      orderOf = of;
    }
    return order.map((index) => meetings[index]);
  }

  function matching() {
    const words = search.value.trim().toLowerCase();
    return inOrder(live.status.meetings).filter((meeting) =>
      FILTERS[filter](meeting) && (words === "" || `${meeting.title} ${meeting.id}`.toLowerCase().includes(words)));
  }

  function update(event) {
    if (live.status === null) return;
    if (event === "shown") linked();
    const { meetings } = live.status;
    const rows = matching();
    for (const [name, { button, number }] of filters) {
      setText(number, count(meetings.filter(FILTERS[name]).length));
      setAttribute(button, "aria-pressed", String(name === filter));
    }
    setHidden(tools, meetings.length === 0);
    setHidden(search, meetings.length < SEARCHED_FROM && search.value === "");
    show(rows.slice(0, shown));
    setHidden(head, rows.length === 0);
    setHidden(more, rows.length <= shown);
    setText(more, t("meetings.more", { n: Math.min(PAGE, rows.length - shown), left: rows.length - shown }));
    nothing(rows.length, meetings.length);
  }

  function nothing(rows, all) {
    setHidden(none, rows > 0);
    const why = rows > 0 ? "" : all > 0 ? "nomatch" : live.status.connected ? "none" : "unknown";
    if (none.dataset.why === why) return;
    none.dataset.why = why;
    if (why) setChildren(none, [icon("meetings"), el("strong", {}, t(`empty.${why}`)), el("p", {}, t(`empty.${why}.why`))]);
  }

  // "#/meetings/ID", from a problem: that meeting alone.
  function linked() {
    const id = location.hash.match(/^#\/meetings\/(.+)$/)?.[1];
    if (!id) return;
    history.replaceState(null, "", "#/meetings");
    filter = "all";
    search.value = decodeURIComponent(id);
  }

  return {
    node,
    update,
    tick() {
      for (const entry of show.entries()) entry.tick();
    },
  };
}
