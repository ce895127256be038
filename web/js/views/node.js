// The first view: how things stand at a glance, what this node is, and
// starting and stopping it.

import { act } from "../act.js";
import { post } from "../api.js";
import { ask } from "../dialog.js";
import { el, setAttribute, setHidden, setText } from "../dom.js";
import { ago, bytes, count, dateTime, duration, percent, rate } from "../format.js";
import { icon, setIcon } from "../icons.js";
import { t } from "../i18n.js";
import { meter } from "../meter.js";
import { isReady, isUnderWay } from "../node-health.js";

const FACTS = [
  "node_id", "main_server", "last_heartbeat", "last_sync", "advertised_address",
  "node_port", "version", "uptime", "storage_path", "config_file",
];

export function nodeView({ live, session }) {
  const tiles = { meetings: tile("meetings"), serving: tile("traffic"), storage: tile("traffic"), server: tile("config") };
  const bar = meter(t("storage"));
  tiles.storage.node.append(bar.node);

  const values = new Map(FACTS.map((name) => [name, el("dd", { "data-fact": name })]));
  const stateIcon = icon("wait");
  const stateWord = el("span", {});
  const state = el("span", { class: "state badge", id: "service-state" }, stateIcon, stateWord);
  const start = el("button", { type: "button", class: "button primary", id: "start" }, icon("start"), t("service.start"));
  const stop = el("button", { type: "button", class: "button danger", id: "stop" }, icon("stop"), t("service.stop"));

  start.addEventListener("click", () => act(start, () => post("/api/service/start"), t("service.started")));
  stop.addEventListener("click", async () => {
    const yes = await ask({
      title: t("service.stop.title"),
      lines: [t("service.stop.what"), t("service.stop.keeps")],
      yes: t("service.stop"),
      dangerous: true,
    });
    if (yes) act(stop, () => post("/api/service/stop"), t("service.stopped"));
  });

  function update() {
    const { status } = live;
    if (status === null) return;
    showTiles(status);
    const { running } = status;
    setAttribute(state, "data-tone", running ? "good" : "none");
    setAttribute(state, "data-state", running ? "running" : "stopped");
    setIcon(stateIcon, running ? "good" : "stopped");
    setText(stateWord, t(running ? "service.running" : "service.is.stopped"));
    const focused = document.activeElement === start || document.activeElement === stop;
    setHidden(start, running || !session.operator);
    setHidden(stop, !running || !session.operator);
    if (focused) (running ? stop : start).focus({ preventScroll: true });
    facts(status);
  }

  function showTiles({ meetings, storage, connected, running, main_server: server, downloads_under_way: serving }) {
    const active = meetings.filter((meeting) => meeting.active);
    const busy = meetings.filter(isUnderWay).length;
    const failing = active.filter((meeting) => meeting.state === "failing").length;
    const ready = active.filter(isReady).length;
    const below = failing ? t("tile.failing", { n: failing }) : busy ? t("tile.busy", { n: busy }) : t("tile.kept", { n: meetings.length });
    tiles.meetings.show(t("tile.meetings"), `${count(ready)} / ${count(active.length)}`, below, failing ? "warning" : null);
    const [, sent = 0] = live.samples[live.samples.length - 1] ?? [];
    tiles.serving.show(t("tile.serving"), count(serving), t("tile.rate", { rate: rate(sent / live.step) }));
    const share = storage.used / storage.limit;
    tiles.storage.show(t("storage"), percent(share), t("of", { used: bytes(storage.used), limit: bytes(storage.limit) }));
    const level = share >= storage.cleanup_at / storage.limit ? "warning" : "good";
    bar.update({ share, text: percent(share), level });
    const word = running ? (connected ? "connected" : "disconnected") : "unregistered";
    tiles.server.show(t("fact.main_server"), t(`server.${word}`), server, running && !connected ? "error" : null);
  }

  function facts(status) {
    const now = live.now();
    const shown = {
      node_id: status.node_id,
      main_server: status.main_server,
      last_heartbeat: ago(status.last_heartbeat, now),
      last_sync: ago(status.last_sync, now),
      advertised_address: status.advertised_address ?? t("fact.none"),
      node_port: String(status.node_port),
      version: status.version,
      uptime: `${duration(now - status.start_time)} (${t("fact.since", { time: dateTime(status.start_time) })})`,
      storage_path: status.storage.path,
      config_file: status.config_file,
    };
    for (const [name, node] of values) setText(node, shown[name]);
  }

  return {
    node: el("div", { class: "view" },
      el("h1", { tabindex: "-1" }, t("view.overview")),
      el("ul", { class: "tiles" }, Object.values(tiles).map(({ node }) => el("li", {}, node))),
      el("section", { class: "card", "aria-labelledby": "node-title" },
        el("div", { class: "card-head" },
          el("h2", { id: "node-title" }, t("node"), " ", state),
          el("div", { class: "buttons" }, start, stop)),
        el("dl", { class: "facts" }, FACTS.flatMap((name) => [el("dt", {}, t(`fact.${name}`)), values.get(name)])))),
    update,
    tick: () => live.status && facts(live.status),
  };
}

function tile(view) {
  const [title, value, below] = [el("span", { class: "tile-title" }), el("strong", {}), el("span", { class: "soft small" })];
  const node = el("a", { class: "card tile", href: `#/${view}` }, title, value, below);
  return {
    node,
    show(name, main, text, tone = null) {
      setText(title, name);
      setText(value, main);
      setText(below, text);
      setAttribute(node, "data-tone", tone);
    },
  };
}
