// The node's meetings: filtered here, found by found.js, a row each
// (meeting-row.js).

import { el, setAttribute, setHidden, setText } from "../dom.js";
import { count } from "../format.js";
import { locale, t } from "../i18n.js";
import { isReady, isUnderWay } from "../node-health.js";
import { view } from "../parts.js";
import { foundList } from "./found.js";
import { meetingRow } from "./meeting-row.js";

const FILTERS = {
  all: () => true,
  failing: ({ state }) => state === "failing",
  busy: (meeting) => isUnderWay(meeting) || meeting.state === "waiting",
  ready: isReady,
  ended: ({ state }) => state === "inactive",
};

export function meetingsView(context) {
  const { live } = context;
  let filter = "all";
  let order = [];
  let orderOf = "";

  const filters = Object.keys(FILTERS).map((name) => {
    const number = el("span.number");
    const choose = () => {
      filter = name;
      list.narrowed();
    };
    const chip = el("button.chip", { "data-filter": name, onclick: choose }, t(`filter.${name}`), " ", number);
    return { name, chip, number };
  });
  const list = foundList({
    columns: ["title", "state", "size", "downloads", "served"],
    row: () => meetingRow(context, list.search),
    wanted: () => inOrder(live.status.meetings).filter(FILTERS[filter]),
    all: () => live.status.meetings.length,
    why: () => (live.status.connected ? "none" : "unknown"),
    changed: update,
  });
  const tools = el("div.tools",
    el("div.chips", { role: "group", "aria-label": t("filter.name") }, filters.map(({ chip }) => chip)),
    list.search);

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

  function update(event) {
    if (live.status === null) return;
    if (event === "shown") linked();
    const { meetings } = live.status;
    for (const { name, chip, number } of filters) {
      setText(number, count(meetings.filter(FILTERS[name]).length));
      setAttribute(chip, "aria-pressed", String(name === filter));
    }
    setHidden(tools, meetings.length === 0);
    list.update();
  }

  // "#/meetings/ID", from a problem: that meeting alone.
  function linked() {
    const id = location.hash.match(/^#\/meetings\/(.+)$/)?.[1];
    if (!id) return;
    history.replaceState(null, "", "#/meetings");
    filter = "all";
    list.search.value = decodeURIComponent(id);
  }

  return {
    node: view("meetings", tools, list.node),
    update,
    tick: list.tick,
  };
}
