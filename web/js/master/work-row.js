// A remote task in the list: how far it is, its runs when it is opened, and what can be done
// about it.

import { get, post } from "../api.js";
import { act, ask } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { count, dateTime, moment } from "../format.js";
import { half, t } from "../i18n.js";
import { badge, button } from "../parts.js";
import { listed } from "../texts/shared.js";
import { nameOf } from "./health.js";

const LOOKS = {
  queued: ["wait", "none"], running: ["sync", "busy"], cancelling: ["sync", "warning"], succeeded: ["good", "good"],
  partial: ["warning", "warning"], failed: ["error", "error"], cancelled: ["stopped", "none"], waiting: ["wait", "none"],
  given: ["wait", "busy"], lost: ["error", "error"], missed: ["warning", "warning"],
};
const OPEN = ["queued", "running"];
const REFRESH_MS = 1000;
const RUNS = 100;
const MAX_RESULT_CHARS = 5000;
export const PATH = "/api/v1/tasks";
const pathOf = (id) => `${PATH}/${encodeURIComponent(id)}`;

export function workRow(live, { refresh, toggle, isOpen }) {
  let task = null;
  let details = null;
  const title = foreign("", ".message-body");
  const about = el("p.small.soft");
  const state = badge();
  const words = el("span.small");
  const bar = el("progress.progress", { "aria-hidden": "true", max: 1 });
  const opener = button(".quiet.disclose", "link", t("details"), { "data-action": "details", onclick: () => toggle(task.id) });
  const retry = button(".quiet", "sync", t("work.retry.name"), { "data-action": "retry", onclick: tryAgain });
  const cancel = button(".quiet.danger", "stop", t("work.cancel.name"), { "data-action": "cancel", onclick: askToCancel });
  const node = el("li.message", title, about, el("div.message-state", state.node, words), bar, el("div.task-buttons", opener, retry, cancel));

  async function askToCancel() {
    const { id } = task;
    const sure = await ask({ title: t("work.cancel.title"), name: task.title, lines: [t("work.cancel.what")], yes: t("work.cancel.yes"), no: t("work.no"), dangerous: true });
    if (sure && (await act(cancel, () => post(`${pathOf(id)}/cancel`), t("work.cancel.done")))) refresh();
  }

  async function tryAgain() {
    const { id } = task;
    const made = await act(retry, () => post(`${pathOf(id)}/retry`), t("work.retry.done"));
    if (made) refresh(made.id);
  }

  function outcome({ total, succeeded, running, waiting, failed, lost, missed, cancelled }) {
    return listed(
      t("work.done", { done: count(succeeded), n: total }),
      ...Object.entries({ running, waiting, failed, lost, missed, cancelled }).map(([name, n]) => n > 0 && t(`work.${name}`, { n: count(n) })),
    );
  }

  function update(fresh) {
    task = fresh;
    const { id, status, parts, created_at: at, by, type, deadline } = task;
    setAttribute(node, "data-work", id);
    setAttribute(node, "data-state", status);
    setText(title, half(task.title));
    setText(about, listed(type, t(`run.spread.${task.spread}`), dateTime(at), t("work.by", { address: by.address }), OPEN.includes(status) && t("work.until", { time: moment(deadline, live.now()) })));
    state.show(LOOKS[status], t(`work-state.${status}`));
    setText(words, outcome(parts));
    setHidden(bar, status !== "running");
    bar.value = task.progress;
    const isOver = task.finished_at !== null;
    setHidden(retry, !isOver || parts.failed + parts.lost + parts.missed + parts.cancelled === 0);
    setHidden(cancel, !OPEN.includes(status));
    for (const control of [opener, retry, cancel]) setAttribute(control, "aria-label", `${control.lastChild.textContent}: ${task.title}`);
    showDetails(isOpen(id));
  }

  function showDetails(isShown) {
    setAttribute(opener, "aria-expanded", String(isShown));
    if (isShown && details === null) {
      details = runsOf(live, task.id);
      node.append(details.node);
    } else if (!isShown && details !== null) {
      details.node.remove();
      details = null;
    }
    details?.update(task);
  }

  return { node, update, tick: () => details?.tick() };
}

function runsOf(live, id) {
  const list = el("ul.task-nodes", { "aria-label": t("work.runs") });
  const show = keyedList(list, ({ part }) => part, () => runRow(live));
  const rest = el("p.soft.small");
  const result = el("pre.code.work-result");
  const node = el("div.meeting-details.task-details", { "data-details": id }, el("h3", t("work.runs")), list, rest, result);
  let asked = -Infinity;
  let isOver = false;
  let status = null;

  async function refresh() {
    asked = performance.now();
    try {
      const task = await get(`${pathOf(id)}?limit=${RUNS}`);
      isOver = task.finished_at !== null;
      show(task.runs);
      setHidden(rest, task.next === null);
      setText(rest, t("work.rest", { n: count(task.parts.total - task.runs.length) }));
      setHidden(result, task.result === null);
      const text = JSON.stringify(task.result, null, 2);
      setText(result, text.length > MAX_RESULT_CHARS ? `${text.slice(0, MAX_RESULT_CHARS)}…` : text);
    } catch {
      // The list says what is wrong.
    }
  }

  setHidden(rest, true);
  setHidden(result, true);
  return {
    node,
    update(task) {
      if (task.status !== status) refresh();
      status = task.status;
    },
    tick() {
      if (!isOver && performance.now() - asked > REFRESH_MS) refresh();
    },
  };
}

function runRow(live) {
  const name = foreign("", ".task-node-name");
  const state = badge();
  const bar = el("progress.progress", { "aria-hidden": "true", max: 1 });
  const said = el("p.small.soft");
  const node = el("li.task-node", name, state.node, bar, said);
  return {
    node,
    update(run) {
      const { state: now, outcome, items, progress } = run;
      setAttribute(node, "data-state", now);
      setText(name, run.node === null ? "–" : nameOf(live.status, run.node));
      state.show(LOOKS[now], t(`work-state.${now}`));
      setHidden(bar, now !== "running" || progress === null);
      bar.value = progress ?? 0;
      setText(said, listed(
        items && t("work.items", { first: count(items.first + 1), last: count(items.first + items.count) }),
        half(outcome?.error ?? run.last_error ?? ""),
        outcome && dateTime(outcome.at),
        run.tried.length > 1 && t("work.tried", { n: count(run.tried.length) }),
        run.late.length > 0 && t("work.late", { n: count(run.late.length) }),
      ));
    },
  };
}
