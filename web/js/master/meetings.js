// The meetings: made here, found by found.js, a row each (meeting-row.js). A
// package that is dropped beside the rows begins a new meeting.

import { notify } from "../dialog.js";
import { el, setHidden } from "../dom.js";
import { t } from "../i18n.js";
import { button, filterChips, titleOf } from "../parts.js";
import { foundList } from "../views/found.js";
import { isRunning } from "./health.js";
import { meetingRow } from "./meeting-row.js";
import { kindOf } from "./readiness.js";
import { showUploads } from "./uploads.js";

const ORDER = ["进行中", "未开始", "已结束"];
const FILTERS = {
  all: () => true,
  running: isRunning,
  waiting: ({ status }) => status === "未开始",
  ended: ({ status }) => status === "已结束",
};
// Of the running ones, those that somebody has to look after.
const URGENT = ["bare", "stuck"];

export function meetingsView(context) {
  const { live } = context;
  const add = button(".primary", "add", t("create.name"), { id: "create", onclick: () => create() });
  const filters = filterChips("filter", "filter.name", Object.keys(FILTERS), () => list.narrowed());
  const list = foundList({
    columns: ["title", "state", "size", "nodes", "actions"],
    row: () => meetingRow(context, { fallback: add }),
    wanted: () => inOrder().filter(FILTERS[filters.chosen()]),
    all: () => live.status.meetings.length,
    why: () => "meetings",
    changed: update,
  });
  const tools = el("div.tools", filters.node, list.search);
  const hint = el("p.soft.small", t("drop.hint"));
  const node = el("div.view",
    el("div.view-head",
      titleOf("meetings"),
      el("div.buttons", add)),
    tools,
    list.node,
    hint);

  // Rows take what is dropped on them; without this the browser would leave
  // the page for the file.
  node.addEventListener("dragover", (event) => event.preventDefault());
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    createAll([...event.dataTransfer.files]);
  });

  // Resolves to the dialog, which is fetched when it is first opened, or to null.
  async function create(file = null, of = null) {
    const dialog = await import("./create.js").catch(() => null);
    if (dialog === null) notify(t("error.gone"), "error");
    return dialog?.createDialog({ file, of });
  }

  // One dialog after the other.
  function createAll(files) {
    const next = async (n) => {
      if (n === files.length) return;
      const of = files.length > 1 ? { n: n + 1, all: files.length } : null;
      (await create(files[n], of))?.addEventListener("close", () => next(n + 1), { once: true });
    };
    next(0);
  }

  // An upload has come to its end: the server has said what the meeting is like now.
  function take(meeting) {
    const known = live.status?.meetings.find(({ id }) => id === meeting?.id);
    if (known) Object.assign(known, meeting);
    update();
  }

  // What runs first, of that what is wrong, then the newest.
  function inOrder() {
    const rank = (meeting) => ORDER.indexOf(meeting.status) - (isRunning(meeting) && URGENT.includes(kindOf(meeting)) ? 1 : 0);
    return [...live.status.meetings].sort((a, b) => rank(a) - rank(b) || b.created_at - a.created_at);
  }

  function update() {
    if (live.status === null) return;
    const { meetings } = live.status;
    filters.show((name) => meetings.filter(FILTERS[name]).length);
    list.update();
    setHidden(tools, meetings.length === 0);
    setHidden(hint, meetings.length === 0);
  }

  showUploads(take);
  return { node, update };
}
