// A task that was opened: what was asked for, each node with its progress and the files that
// it could not have, and the files.

import { get } from "../api.js";
import { sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { ago, bytes, count, dateTime } from "../format.js";
import { half, t } from "../i18n.js";
import { progress } from "../meter.js";
import { Pace, transfer } from "../pace.js";
import { badge, button, complain, facts, filterChips } from "../parts.js";
import { listed } from "../texts/shared.js";
import { nameOf } from "./health.js";
import { pathOf } from "./outbox.js";

const REFRESH_MS = 1000;
// Of a task in which nothing happens any more.
const SETTLED_MS = 10_000;
const PAGE = 50;
const FILES = 100;
const STATES = ["pulling", "failed", "pending", "done", "missed", "unsupported"];
const LOOKS = {
  pulling: ["busy", "busy"], failed: ["error", "error"], pending: ["wait", "none"], done: ["good", "good"],
  missed: ["warning", "warning"], unsupported: ["warning", "warning"], removed: ["remove", "none"], away: ["wait", "warning"],
  untouched: ["stopped", "none"], unconfirmed: ["warning", "warning"],
};
const FACTS = ["absent", "deadline", "priority", "retention", "access", "created", "started", "finished", "removal", "removed", "retry_of", "id"];

export function taskDetails(live, id) {
  const about = facts("facts small", "task-fact", FACTS);
  const filters = filterChips("node-state", "filter.name", ["all", ...STATES], () => turn([]));
  const list = el("ul.task-nodes", { "aria-label": t("task.nodes") });
  const show = keyedList(list, ({ node_id: node }) => node, () => nodeRow(live));
  const none = el("p.soft.small", t("task.none"));
  const wrong = el("p.wrong", { role: "alert" });
  const back = button(".quiet", "reset", t("task.first"), { "data-action": "first", onclick: () => turn([]) });
  const next = button(".quiet", "show", t("task.next"), { "data-action": "next", onclick: () => turn([...pages, following]) });
  const files = filesOf(id);
  const node = el("div.meeting-details.task-details", { "data-details": id },
    el("h3", t("task.nodes")), filters.node, list, none, wrong, el("div.buttons", back, next),
    files.node,
    el("details", el("summary", t("task.about")), about.node));
  let task = null;
  let pages = []; // the node that each page begins after
  let following = null;
  let asked = -Infinity;
  let round = 0;

  function turn(to) {
    pages = to;
    refresh();
  }

  async function refresh() {
    const mine = ++round;
    asked = performance.now();
    const state = filters.chosen() === "all" ? "" : `&state=${filters.chosen()}`;
    const after = pages.length > 0 ? `&after=${encodeURIComponent(pages.at(-1))}` : "";
    try {
      const details = await get(`${pathOf(id)}?limit=${PAGE}${state}${after}`);
      if (mine !== round) return;
      complain(wrong, "");
      take(details);
    } catch (error) {
      if (mine === round) complain(wrong, sentenceOf(error));
    }
  }

  function take(details) {
    update(details);
    following = details.next;
    show(details.node_states.map((state) => ({ ...state, task: details })));
    setHidden(none, details.node_states.length > 0);
    setHidden(back, pages.length === 0);
    setHidden(next, following === null);
  }

  function update(fresh) {
    task = fresh;
    const { nodes, retention, removal } = task;
    filters.show((name) => (name === "all" ? nodes.total : nodes[name]));
    for (const chip of filters.node.children) setHidden(chip, !["all", filters.chosen()].includes(chip.dataset.filter) && nodes[chip.dataset.filter] === 0);
    about.show({
      absent: t(`send.absent.${task.absent}`),
      deadline: dateTime(task.deadline),
      priority: t(`send.priority.${task.priority}`),
      retention: retention === "keep" ? t("send.stay.keep") : t("task.kept", { time: dateTime(retention.until) }),
      access: t(`send.access.${task.access}`),
      created: `${dateTime(task.created_at)} (${task.by.address})`,
      started: dateTime(task.started_at),
      finished: dateTime(task.finished_at),
      removal: dateTime(removal?.begun_at),
      removed: dateTime(removal?.done_at),
      retry_of: task.retry_of ?? "–",
      id,
    });
  }

  const isSettled = () => task !== null && task.finished_at !== null && (task.removal === null || task.removal.done_at !== null);

  setHidden(none, true);
  setHidden(back, true);
  setHidden(next, true);
  return {
    node,
    update(fresh) {
      const before = task;
      update(fresh);
      if (before?.status !== fresh.status || before?.attempt !== fresh.attempt) refresh();
    },
    tick() {
      if (performance.now() - asked > (isSettled() ? SETTLED_MS : REFRESH_MS)) refresh();
    },
  };
}

function nodeRow(live) {
  const name = foreign("", ".task-node-name");
  const state = badge();
  const bar = progress("");
  const said = el("p.small.soft");
  const failed = el("ul.task-failed");
  const node = el("li.task-node", name, state.node, bar.node, said, failed);
  const pace = new Pace();
  let shown = "";

  function kindOf({ state, present, removed, task: { removal, started_at: started, finished_at: finished } }) {
    if (removed) return "removed";
    // It was cancelled.
    if (finished !== null && ["pending", "pulling"].includes(state)) return started === null ? "untouched" : "unconfirmed";
    if (state === "pending" && !present) return "away";
    if (removal !== null && removal.done_at === null && state !== "unsupported") return "removing";
    return state;
  }

  function wordsOf(kind, { done_files: files, received_bytes: size, failed_count: failures, at, present, task }) {
    const much = task.files > 1 && t("task.files.done", { done: count(files), n: count(task.files) });
    const when = at ? ago(at, live.now()) : "";
    switch (kind) {
      case "pulling": return listed(transfer(size, task.bytes, pace), much, !present && t("task.lost"));
      case "done": return listed(bytes(size), dateTime(at));
      case "failed": return listed(t("task.failures", { n: failures }), much, when);
      case "pending": return t(task.status === "queued" ? "task.queued" : "task.waits");
      case "away": return t(task.absent === "skip" && task.started_at === null ? "task.away.skip" : "task.away");
      case "removing": return t(present ? "task.removing.here" : "task.removing.away");
      default: return t(`task.why.${kind}`);
    }
  }

  function showFailed({ failed: files, failed_count: failures }) {
    const now = JSON.stringify([files, failures]);
    if (now === shown) return;
    shown = now;
    const rest = failures - files.length;
    setChildren(failed, [
      ...files.map(({ name, reason }) => el("li", { title: reason }, foreign(name, ".code"), t("board.colon"), half(reason))),
      rest > 0 && el("li.soft", t("task.failures.rest", { n: rest })),
    ]);
    setHidden(failed, failures === 0);
  }

  function update(one) {
    const kind = kindOf(one);
    const { node_id: id, received_bytes: size, task } = one;
    if (kind === "pulling") pace.add(size, performance.now() / 1000);
    setAttribute(node, "data-node", id);
    setAttribute(node, "data-state", kind);
    setText(name, nameOf(live.status, id));
    state.show(LOOKS[kind] ?? LOOKS.pulling, t(`node-state.${kind}`));
    setHidden(bar.node, kind !== "pulling");
    setAttribute(bar.node, "aria-label", t("task.progress", { name: nameOf(live.status, id) }));
    bar.update(task.bytes ? size / task.bytes : 0);
    setText(said, wordsOf(kind, one));
    showFailed(one);
  }

  return { node, update };
}

// Asked for when they are looked at: they never change.
function filesOf(id) {
  const list = el("ul.task-files");
  const wrong = el("p.wrong", { role: "alert" });
  const more = button(".quiet", "show", t("task.files.more"), { onclick: showMore });
  const node = el("details.task-files-box", { ontoggle: load }, el("summary", t("task.files.title")), list, more, wrong);
  let all = null;
  let asking = false;

  async function load() {
    if (!node.open || all !== null || asking) return;
    asking = true;
    try {
      all = (await get(`${pathOf(id)}/files`)).files;
      complain(wrong, "");
      showMore();
    } catch (error) {
      complain(wrong, sentenceOf(error));
    } finally {
      asking = false;
    }
  }

  function showMore() {
    const from = list.children.length;
    list.append(...all.slice(from, from + FILES).map(({ name, size, sha256 }) =>
      el("li", foreign(name), " ", el("span.small.soft", bytes(size)), " ", el("span.code.soft.task-digest", { title: sha256 }, `SHA-256 ${sha256.slice(0, 12)}…`))));
    setHidden(more, list.children.length >= all.length);
  }

  setHidden(more, true);
  return { node };
}
