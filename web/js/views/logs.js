// The last log lines, by level. New ones are followed until the reader
// scrolls up or pauses.

import { get } from "../api.js";
import { sentenceOf } from "../dialog.js";
import { el, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { clock, dateTime } from "../format.js";
import { setIcon } from "../icons.js";
import { t } from "../i18n.js";
import { button, complain, nothing, titleOf } from "../parts.js";

const SHOWN = 200;
const LEVELS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"];

// What has come so far, of all levels; it outlives the view, which is made
// anew for another language.
const KEPT = 5000;
export const logLines = {
  lines: [],
  viewer: null,

  take({ lines }) {
    const newest = this.lines.at(-1);
    // A node that was started anew counts from one again.
    const restarted = newest && lines.some(({ n, time }) => n < newest.n && time > newest.time);
    const known = new Map((restarted ? [] : this.lines).map((line) => [line.n, line]));
    for (const line of lines) if (!known.has(line.n)) known.set(line.n, line);
    this.lines = [...known.values()].sort((one, other) => one.n - other.n).slice(-KEPT);
  },

  // Only asked for while somebody looks.
  pollPath() {
    const newest = logLines.lines.at(-1)?.n ?? 0;
    return logLines.viewer?.isConnected ? `/api/logs?after=${newest}&limit=${SHOWN}` : null;
  },
};

export function logsView({ live }) {
  let shown = [];
  let level = "INFO";
  let paused = false;
  let waiting = 0;

  const list = el("ol");
  const rows = el("div.log", { id: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": t("view.logs") }, list);
  const select = el("select", { id: "level" }, LEVELS.map((name) => el("option", { value: name, selected: name === level }, t("logs.from", { name }))));
  const pause = button("", "pause", t("logs.pause"), { id: "pause", "aria-pressed": "false" });
  const jump = button(".primary.log-jump", "down", "", { id: "jump", hidden: true });
  const none = nothing("logs");
  const failed = el("p.wrong", { role: "alert" });

  const atEnd = () => rows.scrollHeight - rows.scrollTop - rows.clientHeight < 30;

  select.onchange = () => {
    level = select.value;
    render();
    load();
  };
  pause.onclick = () => {
    paused = !paused;
    setAttribute(pause, "aria-pressed", String(paused));
    setIcon(pause.firstChild, paused ? "start" : "pause");
    setText(pause.lastChild, t(paused ? "logs.resume" : "logs.pause"));
    if (!paused) follow();
  };
  jump.onclick = () => {
    if (paused) pause.click();
    else follow();
    rows.focus();
  };
  rows.onscroll = () => atEnd() && !paused && waiting > 0 && follow();

  function follow() {
    render();
    rows.scrollTop = rows.scrollHeight;
    waiting = 0;
    showJump();
  }

  // Asked anew at every level: of a coarser one, older lines come to light.
  async function load() {
    try {
      logLines.take(await get(`/api/logs?level=${level}&limit=${SHOWN}`));
      complain(failed, "");
      if (paused) onNew();
      else follow();
    } catch (error) {
      complain(failed, sentenceOf(error));
    }
  }

  function onNew() {
    const newest = shown.at(-1)?.n ?? 0;
    waiting = ofLevel().filter(({ n }) => n > newest).length;
    if (!paused && atEnd()) follow();
    else showJump();
  }

  const ofLevel = () =>
    logLines.lines.filter((line) => LEVELS.indexOf(line.level) >= LEVELS.indexOf(level)).slice(-SHOWN);

  // Lines never change, so those that stay are left alone.
  let made = new Map();
  function render() {
    shown = ofLevel();
    made = new Map(shown.map((line) => [line, made.get(line) ?? row(line)]));
    setChildren(list, [...made.values()]);
    none.show(shown.length > 0 ? "" : "logs");
    setHidden(rows, shown.length === 0);
  }

  function showJump() {
    setHidden(jump, waiting === 0);
    setText(jump.lastChild, t("logs.new", { n: waiting }));
  }

  const node = el("div.view",
    el("div.view-head",
      titleOf("logs"),
      el("div.buttons", el("label.soft", { for: "level" }, t("logs.level")), select, pause)),
    failed,
    el("section.card.log-box", { "aria-label": t("view.logs") }, rows, none.node, jump));

  logLines.viewer = node;
  return {
    node,
    update(event) {
      if (event === "shown" || event === "connected") load();
      else if (event === "log") onNew();
    },
  };
}

const TONES = { WARNING: "warning", ERROR: "error" };

function row({ n, time, level, text }) {
  return el("li", { "data-n": n, "data-level": level, "data-tone": TONES[level] ?? "none" },
    el("time", { title: dateTime(time) }, clock(time)),
    el("span.log-level", level),
    el("span.log-text", { dir: "auto" }, text));
}
