// One meeting: its state with progress and countdown, its package, and what
// can be done with it.

import { call, post } from "../api.js";
import { act, ask } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { ago, bytes, clock, count, dateTime } from "../format.js";
import { icon } from "../icons.js";
import { known, t } from "../i18n.js";
import { progress } from "../meter.js";
import { Pace, transfer } from "../pace.js";
import { badge, button, disclosed, facts, isolated } from "../parts.js";
import { causeOf, nextTry, whatToDo } from "./health.js";

const LOOKS = {
  waiting: ["wait", "none"],
  pulling: ["busy", "busy"],
  verifying: ["sync", "busy"],
  failing: ["warning", "error"],
  synced: ["good", "good"],
  unconfirmed: ["good", "good"],
  prestaged: ["wait", "good"],
  inactive: ["stopped", "none"],
  unknown: ["wait", "none"],
};

// `fallback` takes the focus when the row with the pressed button is gone.
export function meetingRow({ live, session }, fallback) {
  let meeting = null;
  let path = "";
  const pace = new Pace();

  const title = foreign("", ".meeting-title");
  const id = foreign("", ".code.soft");
  const state = badge();
  const bar = progress(t("state.pulling"));
  const under = el("p.small.soft");
  const from = el("p.small.soft.meeting-source");
  const wrong = el("p.small.meeting-wrong");
  const figures = facts("meeting-facts", "column", ["size", "downloads", "served"]);
  const details = disclosed(() => ({
    sha256: meeting.sha256 ?? "–", synced_at: dateTime(meeting.synced_at),
    file_count: count(meeting.file_count), path: pathOf(), last_error: meeting.last_error ?? "–",
  }));

  const sync = button(".quiet", "sync", t("action.sync"), { "data-action": "sync" });
  const remove = button(".quiet.danger", "remove", t("action.remove"), { "data-action": "remove" });
  const download = el("a.button.quiet", { "data-action": "download", download: "" }, icon("download"), t("action.download"));

  const node = el("li.meeting",
    el("div.meeting-name", title, id, details.button),
    el("div.meeting-state", state.node, bar.node, under, from, wrong),
    figures.node,
    el("div.meeting-buttons", sync, download, remove),
    details.panel);

  sync.onclick = () => act(sync, () => post(`${path}/sync`), t("sync.begun"));
  remove.onclick = async () => {
    const yes = await ask({
      title: t("remove.title"), name: meeting.title || meeting.id, lines: [t("remove.what")], yes: t("action.remove"), dangerous: true,
    });
    if (!yes || !(await act(remove, () => call("DELETE", path), t("removed")))) return;
    (fallback.hidden ? document.querySelector("#view h1") : fallback).focus({ preventScroll: true });
  };

  function update(shown) {
    const fresh = meeting !== shown;
    meeting = shown;
    if (fresh) {
      const name = encodeURIComponent(meeting.id);
      path = `/api/meetings/${name}`;
      setAttribute(download, "href", `/api/v1/meetings/${name}/download-package`);
      setAttribute(node, "data-meeting", meeting.id);
      setAttribute(node, "data-state", meeting.state);
      setText(title, meeting.title || t("untitled"));
      setText(id, meeting.id);
      showState();
      setText(from, meeting.state === "pulling" ? sourceOf(meeting) : "");
      figures.show({ size: bytes(meeting.size ?? meeting.total), downloads: count(meeting.downloads) });
      details.update();
    }
    showButtons();
    tick();
  }

  function showState() {
    state.show(LOOKS[meeting.state] ?? LOOKS.waiting, t(`state.${meeting.state}`));
    const pulling = meeting.state === "pulling";
    setHidden(bar.node, !pulling);
    if (!pulling) return;
    const { received, total } = meeting;
    pace.add(received ?? 0, performance.now() / 1000);
    bar.update(total ? received / total : null);
    setAttribute(bar.node, "aria-label", `${t("state.pulling")}: ${meeting.title}`);
  }

  function showButtons() {
    const { running } = live.status;
    const { operator } = session;
    const busy = meeting.state === "pulling" || meeting.state === "verifying";
    const name = meeting.title || meeting.id;
    for (const [control, hidden] of [
      [sync, !operator || !meeting.active || !running],
      [download, meeting.size === null || !running || (meeting.prestaged ?? false)],
      [remove, !operator || meeting.state !== "inactive"],
    ]) {
      setHidden(control, hidden);
      setAttribute(control, "aria-label", `${t(`action.${control.dataset.action}`)}: ${name}`);
    }
    // Not hidden while busy: it would jump, and lose the focus of who pressed it.
    setAttribute(sync, "aria-disabled", busy ? "true" : null);
  }

  function tick() {
    const now = live.now();
    figures.show({ served: ago(meeting.last_served, now) });
    const failed = meeting.cause || meeting.last_error;
    setText(wrong, failed ? t("meeting.wrong", { cause: causeOf(meeting) || t("cause.other") }) + advice() : "");
    setText(under, meeting.state === "pulling" && !meeting.next_try ? progressOf() : nextTry(meeting, now) || reason());
  }

  function reason() {
    if (meeting.prestaged && meeting.state !== "prestaged") return t("state.early");
    const key = `state.${meeting.state}.why`;
    return known(key) ? t(key) : "";
  }

  // Through which nodes its bytes come, the nearest first.
  function pathOf() {
    const { path = [] } = meeting.source ?? {};
    return path.length ? [...path.map(isolated), t("fact.main_server")].join(" ← ") : "–";
  }

  const advice = () => (meeting.state === "failing" ? t("sentence.gap") + whatToDo({ ...meeting, code: "" }) : "");

  const progressOf = () => (live.connection === "away" ? "" : transfer(meeting.received, meeting.total, pace));

  return { node, update, tick };
}

// "From node hall-2 (10.0.0.6:8001) since 14:03:10: the main server says so."
function sourceOf({ source }) {
  if (!source || source.reason === "undecided") return t("source.undecided");
  const { node, address, reason, since } = source;
  const why = (node === null && DIRECT[reason]) || reason;
  const named = node === null ? t("source.main") : t("source.node", { node: isolated(node), address });
  return t("source.since", { named, time: clock(since), why: known(`source.${why}`) ? t(`source.${why}`) : why });
}

// The same reason, where the pull comes from the main server.
const DIRECT = { assigned: "first", ranked: "first_ranked" };
