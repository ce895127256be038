// The page of the listener for CastRay's clients: the status as its WebSocket tells it.

import { el, foreign, keyedList, setAttribute, setChildren, setHidden, setText } from "./dom.js";
import { ago, bytes, clock, count } from "./format.js";
import { addTexts, known, otherLanguage, setLanguage, t } from "./i18n.js";
import { icon } from "./icons.js";
import { badge, card, nothing } from "./parts.js";
import texts from "./texts/castray.js";

const SHOWN_NODES = 500;
const SHOWN_LINES = 50;
const SHOWN_NAMES = 3;
const RECONNECT_MS = 3000;
const COLUMNS = ["node", "state", "sent", "received", "transfers", "failed", "bytes", "last"];
const CONNECTIONS = { connecting: ["wait", "none"], connected: ["good", "good"], away: ["error", "error"] };

addTexts(texts);

const language = document.getElementById("language");
const content = document.getElementById("content");
const away = document.getElementById("away");
const activity = []; // { at, drawing, words() }, the newest first
let connection = "connecting";
let status = null;
let show = () => {};

// In the other language, all of it is made anew.
function build() {
  const state = badge("connection");
  setAttribute(state.node, "role", "status");
  const sum = el("span.soft");
  const rows = el("tbody", { id: "nodes" });
  const showNodes = keyedList(rows, (node) => node.node_id, nodeRow);
  const table = el("table", el("thead", el("tr", COLUMNS.map((name) => el("th", { scope: "col" }, t(`castray.column.${name}`))))), rows);
  const rest = el("p.small.soft");
  const [noNodes, noActivity] = [nothing("nodes"), nothing("messages")];
  const lines = el("ul.castray-activity", { id: "activity", "aria-label": t("castray.activity") });
  setChildren(language, [icon("language"), el("span", t("other.language"))]);
  setChildren(content, [
    el("div.view-head", el("h1", t("castray.title")), state.node),
    el("p.soft", t("castray.what")),
    el("section.card", { "aria-labelledby": "nodes-title" },
      el("div.card-head", el("h2", { id: "nodes-title" }, t("castray.nodes")), sum), el("div.scroll", table), noNodes.node, rest),
    card("activity-title", t("castray.activity"), lines, noActivity.node),
  ]);
  show = () => {
    state.show(CONNECTIONS[connection], t(`castray.${connection}`));
    document.body.toggleAttribute("data-stale", connection === "away");
    setChildren(away, [icon("error"), el("span", t("castray.away"))]);
    setHidden(away, connection !== "away");
    setChildren(lines, activity.map(({ at, drawing, words }) =>
      el("li", icon(drawing), el("span", foreign(words())), el("time.small.soft", clock(at)))));
    noActivity.show(activity.length > 0 ? "" : "quiet");
    if (status === null) return;
    const { total_nodes: n, active_nodes: active, node_statuses: nodes } = status;
    setText(sum, n === 0 ? "" : t("castray.count", { n: count(n), active: count(active) }));
    showNodes(nodes.slice(0, SHOWN_NODES));
    table.hidden = n === 0;
    noNodes.show(n > 0 ? "" : "castray");
    setText(rest, n > SHOWN_NODES ? t("castray.rest", { n: n - SHOWN_NODES }) : "");
  };
  show();
}

function nodeRow() {
  const name = foreign("");
  const state = badge();
  const cells = Object.fromEntries(COLUMNS.slice(2).map((column) => [column, el("td", { "data-name": t(`castray.column.${column}`) })]));
  const node = el("tr", el("th", { scope: "row" }, name), el("td", state.node), Object.values(cells));
  return {
    node,
    update({ node_id: id, is_running: isRunning, sent_count: sent, received_count: received, last_activity: last, file_transfer_stats: stats }) {
      setText(name, id);
      state.show(isRunning ? ["good", "good"] : ["stopped", "none"], t(isRunning ? "castray.running" : "castray.stopped"));
      const { successful_transfers: transfers, failed_transfers: failed, bytes_transferred: size } = stats;
      for (const [column, value] of Object.entries({ sent, received, transfers, failed, bytes: size, last })) {
        setText(cells[column], column === "bytes" ? bytes(value) : column === "last" ? ago(value, Date.now() / 1000) : count(value));
        // On a phone, what has not happened is left out.
        setAttribute(cells[column], "data-none", !value);
      }
      setAttribute(cells.failed, "data-tone", failed > 0 ? "error" : null);
    },
  };
}

function namesOf(names) {
  const [all, shown] = [names ?? [], Math.min(SHOWN_NAMES, names?.length ?? 0)];
  const text = all.slice(0, shown).join(", ");
  return all.length > shown ? t("castray.more", { names: text, n: all.length, shown }) : text;
}

const DESCRIBED = {
  transfer_activity: ({ type, node_id: sender, recipients, file_name: file }) =>
    ["files", () => t(type === "auto_transfer" ? "castray.automatic" : "castray.transfer", { sender, file, names: namesOf(recipients) })],
  message_received: ({ message_id: id, cast_type: kind, sender }) =>
    ["messages", () => t("castray.message", { id, sender, kind: known(`castray.${kind}`) ? t(`castray.${kind}`) : kind })],
  file_generated_and_transferred: ({ file_name: file, sender_id: sender, successful_transfers: done, total_recipients: all }) =>
    ["files", () => t("castray.generated", { file, sender, done, all })],
};

function take({ type, data }) {
  if (type === "status_update") {
    status = data;
  } else if (type in DESCRIBED) {
    const [drawing, words] = DESCRIBED[type](data);
    activity.unshift({ at: Date.now() / 1000, drawing, words });
    activity.length = Math.min(activity.length, SHOWN_LINES);
  }
  show();
}

function become(next) {
  connection = next;
  show();
}

function connect() {
  const socket = new WebSocket(`ws://${location.host}/ws`);
  socket.onopen = () => become("connected");
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = () => {
    become("away");
    setTimeout(connect, RECONNECT_MS);
  };
}

language.onclick = () => {
  setLanguage(otherLanguage());
  build();
};
build();
connect();
