// One meeting: its state with progress and countdown, its package, and what
// can be done with it.

import { act } from "../act.js";
import { call, post } from "../api.js";
import { ask, notify } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { ago, bytes, count, dateTime, percent, rate, timeLeft } from "../format.js";
import { icon, setIcon } from "../icons.js";
import { known, t } from "../i18n.js";
import { progress } from "../meter.js";
import { Pace } from "../pace.js";
import { causeOf, nextTry, whatToDo } from "./health.js";

const LOOKS = {
  waiting: ["wait", "none"],
  pulling: ["busy", "busy"],
  verifying: ["sync", "busy"],
  failing: ["warning", "error"],
  synced: ["good", "good"],
  unconfirmed: ["good", "good"],
  inactive: ["stopped", "none"],
};

// `fallback` takes the focus when the row with the pressed button is gone.
export function meetingRow({ live, session }, fallback) {
  let meeting = null;
  let path = "";
  const pace = new Pace();

  const title = foreign("", { class: "meeting-title" });
  const id = foreign("", { class: "code soft" });
  const drawn = icon("wait");
  const word = el("span", {});
  const state = el("span", { class: "state badge" }, drawn, word);
  const bar = progress(t("state.pulling"));
  const under = el("p", { class: "small soft" });
  const wrong = el("p", { class: "small meeting-wrong" });
  const facts = Object.fromEntries(["size", "downloads", "served"].map((name) => [name, el("dd", { "data-fact": name })]));

  const button = (name, drawing, extra = "") =>
    el("button", { type: "button", class: `button quiet ${extra}`, "data-action": name }, icon(drawing), t(`action.${name}`));
  const sync = button("sync", "sync");
  const remove = button("remove", "remove", "danger");
  const download = el("a", { class: "button quiet", "data-action": "download", download: "" }, icon("download"), t("action.download"));

  const details = detailsOf(() => meeting);
  const node = el("li", { class: "meeting" },
    el("div", { class: "meeting-name" }, title, id, details.button),
    el("div", { class: "meeting-state" }, state, bar.node, under, wrong),
    el("dl", { class: "meeting-facts" }, Object.entries(facts).map(([name, dd]) =>
      el("div", {}, el("dt", {}, t(`column.${name}`)), dd))),
    el("div", { class: "meeting-buttons" }, sync, download, remove),
    details.panel);

  sync.addEventListener("click", () => act(sync, () => post(`${path}/sync`), t("sync.begun")));
  remove.addEventListener("click", async () => {
    const yes = await ask({
      title: t("remove.title"), name: meeting.title || meeting.id, lines: [t("remove.what")], yes: t("action.remove"), dangerous: true,
    });
    if (!yes || !(await act(remove, () => call("DELETE", path), t("removed")))) return;
    (fallback.hidden ? document.querySelector("#view h1") : fallback).focus({ preventScroll: true });
  });

  function update(shown) {
    const fresh = meeting !== shown;
    meeting = shown;
    if (fresh) {
      path = `/api/meetings/${encodeURIComponent(meeting.id)}`;
      setAttribute(node, "data-meeting", meeting.id);
      setAttribute(node, "data-state", meeting.state);
      setText(title, meeting.title || t("untitled"));
      setText(id, meeting.id);
      showState();
      setText(facts.size, bytes(meeting.size ?? meeting.total));
      setText(facts.downloads, count(meeting.downloads));
      details.update();
    }
    showButtons();
    tick();
  }

  function showState() {
    const [drawing, tone] = LOOKS[meeting.state] ?? LOOKS.waiting;
    setAttribute(state, "data-tone", tone);
    setIcon(drawn, drawing);
    setText(word, t(`state.${meeting.state}`));
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
      [download, meeting.size === null || !running],
      [remove, !operator || meeting.active],
    ]) {
      setHidden(control, hidden);
      setAttribute(control, "aria-label", `${t(`action.${control.dataset.action}`)}: ${name}`);
    }
    // Not hidden while busy: it would jump, and lose the focus of who pressed it.
    setAttribute(sync, "aria-disabled", busy ? "true" : null);
    setAttribute(download, "href", `/api/v1/meetings/${encodeURIComponent(meeting.id)}/download-package`);
  }

  function tick() {
    const now = live.now();
    setText(facts.served, ago(meeting.last_served, now));
    const failed = meeting.cause || meeting.last_error;
    const trying = meeting.next_try ? nextTry(meeting.next_try - now, meeting.attempt) : "";
    setText(wrong, failed ? t("meeting.wrong", { cause: causeOf(meeting) || t("cause.other") }) + advice() : "");
    setHidden(wrong, !failed);
    setText(under, meeting.state === "pulling" && !meeting.next_try ? transfer() : trying || reason());
    setHidden(under, under.textContent === "");
  }

  function reason() {
    const key = `state.${meeting.state}.why`;
    return known(key) ? t(key) : "";
  }

  const advice = () => (meeting.state === "failing" ? t("sentence.gap") + whatToDo({ ...meeting, code: "" }) : "");

  function transfer() {
    const { received, total } = meeting;
    if (live.connection === "away") return "";
    return [
      total ? `${percent(received / total)} · ${t("of", { used: bytes(received), limit: bytes(total) })}` : bytes(received),
      pace.rate === null ? "" : rate(pace.rate),
      timeLeft(pace.secondsLeft(total)),
    ].filter(Boolean).join(" · ");
  }

  return { node, update, tick };
}

// What few want to see: filled when it is opened, then kept up to date.
function detailsOf(current) {
  const panel = el("dl", { class: "facts small meeting-details", hidden: true });
  const button = el(
    "button",
    { type: "button", class: "button quiet disclose", "data-action": "details", "aria-expanded": "false", on: { click: toggle } },
    icon("link"),
    t("details"),
  );
  const values = new Map();

  function toggle() {
    panel.hidden = !panel.hidden;
    setAttribute(button, "aria-expanded", String(!panel.hidden));
    update();
  }

  function value(name) {
    if (!values.has(name)) {
      const text = el("span", { class: name === "sha256" ? "code" : null, "data-fact": name });
      const copy = name === "sha256"
        ? el("button", { type: "button", class: "button quiet", "data-action": "copy", on: { click: () => copyText(text) } }, icon("copy"), t("copy"))
        : null;
      values.set(name, text);
      panel.append(el("dt", {}, t(`fact.${name}`)), el("dd", {}, text, copy));
    }
    return values.get(name);
  }

  function update() {
    if (panel.hidden) return;
    const { file_count: files, sha256, synced_at: synced, last_error: error } = current();
    const shown = {
      sha256: sha256 ?? "–", synced_at: dateTime(synced), file_count: count(files),
      last_error: error ?? "–",
    };
    for (const [name, text] of Object.entries(shown)) setText(value(name), text);
  }

  return { button, panel, update };
}

// The clipboard is only open to pages of secure origins, which a node in a
// closed network is not: then the text is selected for Ctrl+C.
async function copyText(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    notify(t("copied"));
  } catch {
    getSelection().selectAllChildren(node);
    notify(t(document.execCommand?.("copy") ? "copied" : "selected"));
  }
}
