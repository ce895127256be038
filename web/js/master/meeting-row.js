// One meeting: its state and its package, which nodes have it, and what can
// be done with it.

import { call, post } from "../api.js";
import { act, ask, notify, sentenceOf } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { bytes, count, dateTime } from "../format.js";
import { t } from "../i18n.js";
import { progress } from "../meter.js";
import { transfer } from "../pace.js";
import { badge, button, disclosed, facts, isolated } from "../parts.js";
import { listed } from "../texts/shared.js";
import { isRunning, nameOf } from "./health.js";
import { detailOf, kindOf, readinessSentence, shareOf } from "./readiness.js";
import { isReceived, isZip, upload, uploadOf } from "./uploads.js";

const LOOKS = {
  waiting: ["wait", "none"],
  bare: ["error", "error"],
  starting: ["sync", "busy"],
  running: ["good", "good"],
  spreading: ["sync", "busy"],
  lacking: ["warning", "warning"],
  ended: ["stopped", "none"],
};

function stateOf(meeting) {
  if (meeting.status === "未开始") return "waiting";
  if (!isRunning(meeting)) return "ended";
  if (meeting.size === null) return "bare";
  if (!meeting.announced) return "starting";
  return { spreading: "spreading", stuck: "lacking" }[kindOf(meeting)] ?? "running";
}

// Says what has come of it; the one way in for files, chosen or dropped.
export async function send({ id, title }, file) {
  const of = { title: isolated(title || id), file: isolated(file.name) };
  try {
    if (!(await isZip(file))) return notify(t("upload.no.zip", of), "error");
    const done = await upload(id, file);
    notify(t(done ? "upload.done" : "upload.cancelled", of));
  } catch (error) {
    notify(t("upload.failed", of) + sentenceOf(error), "error");
  }
}

// `fallback` takes the focus when the row is gone.
export function meetingRow({ live }, { fallback }) {
  let meeting = null;
  let path = "";

  const title = foreign("", ".meeting-title");
  const time = foreign("", ".small.soft");
  const state = badge();
  const bar = progress("");
  const under = el("p.small.soft");
  const figures = facts("meeting-facts", "column", ["size", "nodes"]);
  const details = disclosed(() => ({
    meeting: meeting.id, files: count(meeting.file_count), bytes: count(meeting.size), sha256: meeting.sha256 ?? "–", created: dateTime(meeting.created_at),
    begun: dateTime(meeting.started_at), ended: dateTime(meeting.ended_at), nodes: meeting.nodes.map((id) => isolated(nameOf(live.status, id))).join(", ") || "–",
    lacking: meeting.readiness?.lacking.map(lackingNode).join(", ") || "–",
  }));
  const lackingNode = (node) =>
    `${isolated(nameOf(live.status, node.node_id))} (${listed(t(`readiness.${node.state}`), detailOf(node))})`;

  const action = (name, drawing, look = "") => button(`.quiet${look}`, drawing, "", { "data-action": name });
  const buttons = {
    start: action("start", "start"), distribute: action("distribute", "relay"), retract: action("retract", "reset"), end: action("end", "stop"), upload: action("upload", "upload"),
    cancel: action("cancel", "close"), delete: action("delete", "remove", ".danger"),
  };
  const picker = el("input", { type: "file", accept: ".zip,application/zip", hidden: true, tabindex: "-1", "aria-hidden": "true" });
  const node = el("li.meeting",
    el("div.meeting-name", title, el("div.meeting-sub", time, details.button)),
    el("div.meeting-state", state.node, bar.node, under),
    figures.node,
    el("div.meeting-buttons", Object.values(buttons), picker),
    details.panel);

  const name = () => meeting.title || meeting.id;
  const agreed = (what, lines, dangerous) =>
    ask({ title: t(`${what}.title`), name: name(), lines, yes: t(`action.${what}`), dangerous });

  buttons.start.onclick = async () => {
    if (meeting.size === null && !(await agreed("start", [t("start.bare")], false))) return;
    act(buttons.start, () => post(`${path}/start`), t("start.done"));
  };
  buttons.distribute.onclick = () => act(buttons.distribute, () => post(`${path}/distribute`), t("distribute.done"));
  buttons.retract.onclick = () => act(buttons.retract, () => call("DELETE", `${path}/distribute`), t("retract.done"));
  buttons.end.onclick = async () => {
    if (await agreed("end", [t("end.what")], true)) act(buttons.end, () => post(`${path}/end`), t("end.done"));
  };
  buttons.delete.onclick = async () => {
    const lines = [t("delete.what"), isRunning(meeting) ? t("delete.running") : null].filter(Boolean);
    if (!(await agreed("delete", lines, true))) return;
    if (await act(buttons.delete, () => call("DELETE", path), t("delete.done"))) fallback.focus({ preventScroll: true });
  };
  buttons.upload.onclick = () => picker.click();
  buttons.cancel.onclick = () => {
    uploadOf(meeting.id)?.cancel();
    buttons.upload.focus({ preventScroll: true });
  };
  picker.onchange = () => {
    const files = [...picker.files];
    picker.value = "";
    offer(files);
  };

  // Another package for a running meeting reaches every tablet: asked first.
  async function offer([file, ...others]) {
    if (!file || meeting.uploading || uploadOf(meeting.id)) return;
    if (others.length > 0) return notify(t("upload.one", { n: others.length + 1 }), "error");
    if (meeting.size !== null && isRunning(meeting) && !(await agreed("replace", [t("replace.what")], true))) return;
    send(meeting, file);
  }

  const over = (event) => {
    event.preventDefault();
    event.stopPropagation();
    node.toggleAttribute("data-over", event.type === "dragover");
    if (event.type === "drop") offer([...event.dataTransfer.files]);
  };
  for (const type of ["dragover", "dragleave", "drop"]) node.addEventListener(type, over);

  function update(fresh) {
    meeting = fresh;
    path = `/api/v1/meetings/${encodeURIComponent(meeting.id)}`;
    const kind = stateOf(meeting);
    setAttribute(node, "data-meeting", meeting.id);
    setAttribute(node, "data-state", kind);
    setText(title, name());
    setAttribute(details.button, "aria-label", `${t("details")}: ${name()}`);
    setText(time, meeting.time);
    setHidden(time, meeting.time === "");
    state.show(LOOKS[kind], t(`state.${kind}`));
    figures.show({
      size: bytes(meeting.size),
      nodes: meeting.size === null ? "–" : `${count(meeting.nodes.length)} / ${count(meeting.readiness?.total ?? live.status.nodes.length)}`,
    });
    details.update();
    showWork(kind);
    showButtons();
  }

  // What is going on: an upload from here or elsewhere, else where it is.
  function showWork(kind) {
    const own = uploadOf(meeting.id);
    const spreads = ["spreading", "stuck"].includes(kindOf(meeting));
    const uploading = meeting.uploading && !isReceived(meeting);
    setHidden(bar.node, !own && !uploading && !spreads);
    if (own) {
      const sent = own.sent >= own.total;
      setAttribute(bar.node, "aria-label", t("upload.of", { file: own.name }));
      bar.update(sent ? null : own.sent / own.total);
      return setText(under, sent ? t("upload.checking") : transfer(own.sent, own.total, own.pace));
    }
    if (spreads) bar.update(shareOf(meeting.readiness));
    if (uploading) bar.update(null);
    setAttribute(bar.node, "aria-label", t(uploading ? "upload.elsewhere" : "spread"));
    setText(under, uploading ? t("upload.elsewhere") : where(kind));
  }

  function where(kind) {
    if (meeting.size === null) return t(kind === "bare" ? "package.missing" : "package.none");
    const have = readinessSentence(meeting, live);
    if (meeting.prestaged && !isRunning(meeting)) return have + t("sentence.gap") + t("package.early");
    if (kind === "ended") return "";
    if (kind === "waiting") return t("package.ready");
    return kind === "starting" ? have + t("sentence.gap") + t("state.starting.why") : have;
  }

  function showButtons() {
    const own = uploadOf(meeting.id);
    const running = isRunning(meeting);
    const words = {
      start: meeting.status === "已结束" ? "action.restart" : "action.start",
      upload: meeting.size === null ? "action.upload" : "action.replace",
    };
    const focused = document.activeElement;
    for (const [what, control] of Object.entries(buttons)) {
      const text = t(words[what] ?? `action.${what}`);
      setText(control.lastChild, text);
      setAttribute(control, "aria-label", `${text}: ${name()}`);
    }
    setHidden(buttons.start, running);
    setHidden(buttons.distribute, running || meeting.prestaged || meeting.size === null);
    setHidden(buttons.retract, running || !meeting.prestaged);
    setHidden(buttons.end, !running);
    setHidden(buttons.upload, own !== null);
    setHidden(buttons.cancel, own === null);
    setAttribute(buttons.upload, "aria-disabled", meeting.uploading && !isReceived(meeting) ? "true" : null);
    // The pressed button may have made way for its opposite.
    const pairs = [[buttons.start, buttons.end], [buttons.upload, buttons.cancel], [buttons.distribute, buttons.retract]];
    for (const pair of pairs) {
      if (pair.includes(focused) && focused.hidden) pair.find((control) => !control.hidden)?.focus({ preventScroll: true });
    }
  }

  return { node, update };
}
