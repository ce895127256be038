// The node's meetings: filtered here, found by found.js, a row each
// (meeting-row.js).

import { el, setHidden } from "../dom.js";
import { locale } from "../i18n.js";
import { isReady, isUnderWay } from "../node-health.js";
import { filterChips, view } from "../parts.js";
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
  let order = [];
  let orderOf = "";

  const filters = filterChips("filter", "filter.name", Object.keys(FILTERS), () => list.narrowed());
  const list = foundList({
    columns: ["title", "state", "size", "downloads", "served"],
    row: () => meetingRow(context, list.search),
    wanted: () => inOrder(live.status.meetings).filter(FILTERS[filters.chosen()]),
    all: () => live.status.meetings.length,
    why: () => (live.status.connected ? "none" : "unknown"),
    changed: update,
  });
  const tools = el("div.tools", filters.node, list.search);

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
    filters.show((name) => meetings.filter(FILTERS[name]).length);
    setHidden(tools, meetings.length === 0);
    list.update();
  }

  // "#/meetings/ID", from a problem: that meeting alone.
  function linked() {
    const id = location.hash.match(/^#\/meetings\/(.+)$/)?.[1];
    if (!id) return;
    history.replaceState(null, "", "#/meetings");
    filters.choose("all");
    list.search.value = decodeURIComponent(id);
  }

  return {
    node: view("meetings", tools, list.node),
    update,
    tick: list.tick,
  };
}
