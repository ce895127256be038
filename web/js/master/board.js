// The readiness board: for each meeting whose package nodes are to have, who has it
// and why the others don't. Its nodes (board-nodes.js) are made when it is opened.

import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { t } from "../i18n.js";
import { badge, button } from "../parts.js";
import { boardNodes } from "./board-nodes.js";
import { kindOf, readinessBar, readinessSentence } from "./readiness.js";

// What is beyond is counted; the meetings' view has them all.
const ROWS = 30;
// Most urgent first.
const KINDS = ["bare", "stuck", "alone", "spreading", "ready"];
const LOOKS = {
  bare: ["error", "error"],
  stuck: ["warning", "warning"],
  alone: ["warning", "warning"],
  spreading: ["sync", "busy"],
  ready: ["good", "good"],
};

export function boardCard({ live }) {
  const list = el("ul.board", { id: "board", "aria-labelledby": "board-title" });
  const none = el("p.soft", t("board.none"));
  const rest = el("p.soft.small");
  const show = keyedList(list, ({ id }) => id, () => boardRow(live));
  const node = el("section.card", { "aria-labelledby": "board-title" },
    el("h2", { id: "board-title" }, t("board.name")), list, rest, none);

  return {
    node,
    update() {
      const kinds = new Map(live.status.meetings.map((meeting) => [meeting, KINDS.indexOf(kindOf(meeting))]));
      const shown = live.status.meetings.filter((meeting) => kinds.get(meeting) >= 0);
      shown.sort((a, b) => kinds.get(a) - kinds.get(b) || b.created_at - a.created_at);
      show(shown.slice(0, ROWS));
      setText(rest, shown.length > ROWS ? t("board.rest", { n: shown.length - ROWS }) : "");
      setHidden(list, shown.length === 0);
      setHidden(none, shown.length > 0);
    },
  };
}

function boardRow(live) {
  let nodes = null;
  let meeting = null;
  const title = foreign("", ".meeting-title");
  const time = foreign("", ".small.soft");
  const state = badge();
  const sentence = el("p.small");
  const bar = readinessBar();
  const opener = button(".quiet.disclose", "link", t("board.nodes"), {
    "data-action": "nodes", "aria-expanded": "false", onclick: toggle,
  });
  const panel = el("div.board-panel", { hidden: true });
  const row = el("li.board-row",
    el("div.board-head", el("div.board-name", title, time), state.node, opener),
    bar.node, sentence, panel);

  function open(isOpen) {
    setHidden(panel, !isOpen);
    setAttribute(opener, "aria-expanded", String(isOpen));
  }

  function toggle() {
    open(panel.hidden);
    if (nodes === null) {
      nodes = boardNodes(live);
      panel.append(nodes.node);
    }
    if (!panel.hidden) nodes.update(meeting);
  }

  return {
    node: row,
    update(fresh) {
      meeting = fresh;
      const kind = kindOf(meeting);
      const { readiness } = meeting;
      setAttribute(row, "data-meeting", meeting.id);
      setAttribute(row, "data-state", kind);
      setText(title, meeting.title || meeting.id);
      setAttribute(opener, "aria-label", `${t("board.nodes")}: ${meeting.title || meeting.id}`);
      setText(time, meeting.prestaged && meeting.status !== "进行中" ? t("board.prestaged") : meeting.time);
      state.show(LOOKS[kind], t(`board.state.${kind}`));
      const text = readinessSentence(meeting, live);
      setText(sentence, text);
      const hasNodes = readiness !== null && readiness.total > 0;
      setHidden(bar.node, !hasNodes);
      setHidden(opener, !hasNodes);
      if (!hasNodes) open(false);
      if (hasNodes) bar.update(readiness, text);
      if (nodes !== null && hasNodes && !panel.hidden) nodes.update(meeting);
    },
  };
}
