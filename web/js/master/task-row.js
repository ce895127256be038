// A task in the list: what was sent to whom, how far it is, and what can be done about it.

import { call, post } from "../api.js";
import { act, ask } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { bytes, count, dateTime, moment } from "../format.js";
import { t } from "../i18n.js";
import { badge, button } from "../parts.js";
import { listed } from "../texts/shared.js";
import { destinationNames } from "./destinations.js";
import { pathOf } from "./outbox.js";
import { taskDetails } from "./task-details.js";

const LOOKS = {
  queued: ["wait", "none"], active: ["sync", "busy"], cancelling: ["sync", "warning"], completed: ["good", "good"],
  partial: ["warning", "warning"], failed: ["error", "error"], cancelled: ["stopped", "none"],
};
const OPEN = ["queued", "active"];

export function taskRow(live, { refresh, toggle, isOpen }) {
  let task = null;
  let details = null;
  const title = foreign("", ".message-body");
  const about = el("p.small.soft");
  const state = badge();
  const words = el("span.small");
  const bar = el("progress.progress", { "aria-hidden": "true" });
  const removal = el("p.small.soft");
  const opener = button(".quiet.disclose", "link", t("details"), { "data-action": "details", onclick: () => toggle(task.id) });
  const retry = button(".quiet", "sync", t("task.retry"), { "data-action": "retry", onclick: tryAgain });
  const cancel = button(".quiet.danger", "stop", t("task.cancel.name"), { "data-action": "cancel", onclick: askToCancel });
  const remove = button(".quiet.danger", "remove", t("task.remove.name"), { "data-action": "remove", onclick: askToRemove });
  const node = el("li.message", title, about, el("div.message-state", state.node, words), bar, removal,
    el("div.task-buttons", opener, retry, cancel, remove));

  const askTo = (what) => ask({
    title: t(`task.${what}.title`), name: task.title, lines: [t(`task.${what}.what`), t(`task.${what}.away`), t("task.copies")],
    yes: t(`task.${what}.yes`), no: t("task.no"), dangerous: true,
  });

  async function askToCancel() {
    const { id } = task;
    if ((await askTo("cancel")) && (await act(cancel, () => call("DELETE", pathOf(id)), t("task.cancel.done")))) refresh();
  }

  async function askToRemove() {
    const { id } = task;
    if ((await askTo("remove")) && (await act(remove, () => call("DELETE", pathOf(id)), t("task.remove.done")))) refresh();
  }

  // In the same task, or if it is over in another one.
  async function tryAgain() {
    const { id } = task;
    const made = await act(retry, () => post(`${pathOf(id)}/retry`), t(OPEN.includes(task.status) ? "task.retry.same" : "task.retry.new"));
    if (made) refresh(made.id);
  }

  function outcome({ total, done, failed, missed, unsupported, pulling, pending }) {
    if (total === 0) return t("task.nobody");
    const isOver = !OPEN.includes(task.status);
    return listed(
      t("task.have", { done: count(done), n: total }),
      !isOver && pulling > 0 && t("task.pulling", { n: count(pulling) }),
      !isOver && pending > 0 && t("task.pending", { n: count(pending) }),
      failed > 0 && t("task.failed", { n: count(failed) }),
      missed > 0 && t("task.missed", { n: count(missed) }),
      unsupported > 0 && t("task.unsupported", { n: count(unsupported) }),
    );
  }

  function removalWords({ removal: gone }) {
    // Nobody had anything of one that was cancelled before it began.
    if (gone === null || (gone.done_at !== null && gone.removed + gone.pending === 0)) return "";
    const now = { removed: count(gone.removed), pending: count(gone.pending) };
    if (gone.done_at === null) return t("task.removing", now);
    return listed(t("task.removed", { ...now, time: moment(gone.done_at, live.now()) }), gone.pending > 0 && t("task.unconfirmed", now));
  }

  function update(fresh) {
    task = fresh;
    const { id, status, files, bytes: size, to, by, created_at: at, deadline, nodes } = task;
    setAttribute(node, "data-task", id);
    setAttribute(node, "data-state", status);
    setText(title, task.title);
    setText(about, listed(
      t("task.files", { n: files }), bytes(size), t("task.to", { names: destinationNames(to, live.status) }), dateTime(at), t("task.by", { address: by.address }),
      OPEN.includes(status) && t("task.until", { time: moment(deadline, live.now()) }),
    ));
    state.show(LOOKS[status], t(`task.state.${status}`));
    setText(words, status === "queued" && nodes.pulling + nodes.done === 0 ? t("task.queued") : outcome(nodes));
    setHidden(bar, status !== "active" || nodes.total === 0);
    Object.assign(bar, { max: Math.max(nodes.total, 1), value: nodes.done });
    setText(removal, removalWords(task));
    const isOver = !OPEN.includes(status) && status !== "cancelling";
    const isRemoved = task.removal !== null;
    setHidden(retry, isRemoved || nodes.failed + nodes.missed + nodes.unsupported === 0);
    setHidden(cancel, !OPEN.includes(status));
    setHidden(remove, !isOver || isRemoved || nodes.total === 0);
    for (const control of [opener, retry, cancel, remove]) setAttribute(control, "aria-label", `${control.lastChild.textContent}: ${task.title}`);
    showDetails(isOpen(id));
  }

  function showDetails(isShown) {
    setAttribute(opener, "aria-expanded", String(isShown));
    if (isShown && details === null) {
      details = taskDetails(live, task.id);
      node.append(details.node);
    } else if (!isShown && details !== null) {
      details.node.remove();
      details = null;
    }
    details?.update(task);
  }

  return { node, update, tick: () => details?.tick() };
}
