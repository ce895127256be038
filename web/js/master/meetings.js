// The meetings: made here, found by found.js, a row each (meeting-row.js). A
// package that is dropped beside the rows begins a new meeting.

import { el, setHidden } from "../dom.js";
import { t } from "../i18n.js";
import { button, titleOf } from "../parts.js";
import { foundList } from "../views/found.js";
import { createDialog } from "./create.js";
import { meetingRow } from "./meeting-row.js";
import { showUploads } from "./uploads.js";

const ORDER = ["进行中", "未开始", "已结束"];

export function meetingsView(context) {
  const { live } = context;
  const create = (file = null, of = null) => createDialog({ file, of });
  const add = button(".primary", "add", t("create.name"), { id: "create", onclick: () => create() });
  const list = foundList({
    columns: ["title", "state", "size", "files", "nodes"],
    row: () => meetingRow(context, { fallback: add }),
    wanted: inOrder,
    all: () => live.status.meetings.length,
    why: () => "meetings",
    changed: update,
  });
  const tools = el("div.tools", list.search);
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

  // One dialog after the other.
  function createAll(files) {
    const next = (n) => {
      if (n === files.length) return;
      const of = files.length > 1 ? { n: n + 1, all: files.length } : null;
      create(files[n], of).addEventListener("close", () => next(n + 1), { once: true });
    };
    next(0);
  }

  // An upload has come to its end: the server has said what the meeting is like now.
  function take(meeting) {
    const known = live.status?.meetings.find(({ id }) => id === meeting?.id);
    if (known) Object.assign(known, meeting);
    update();
  }

  // What runs first, then the newest.
  function inOrder() {
    const rank = ({ status }) => ORDER.indexOf(status);
    return [...live.status.meetings].sort((a, b) => rank(a) - rank(b) || b.created_at - a.created_at);
  }

  function update() {
    if (live.status === null) return;
    list.update();
    setHidden(tools, list.search.hidden);
    setHidden(hint, live.status.meetings.length === 0);
  }

  showUploads(take);
  return { node, update };
}
