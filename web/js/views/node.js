// The first view: how things stand at a glance, what this node is, and
// starting and stopping it.

import { post } from "../api.js";
import { act, ask } from "../dialog.js";
import { el, setAttribute, setHidden } from "../dom.js";
import { ago, bytes, count, dateTime, duration, percent, rate } from "../format.js";
import { t } from "../i18n.js";
import { meter } from "../meter.js";
import { isReady, isUnderWay } from "../node-health.js";
import { badge, button, facts, tile, view } from "../parts.js";
import { noticesCard } from "./notices.js";

const FACTS = [
  "node_id", "main_server", "last_heartbeat", "last_poll", "advertised_address",
  "node_port", "version", "uptime", "storage_path", "config_file",
];

// With its place where there are several.
function mainServer({ main_server_in_use: server, main_servers: all }) {
  if (all.length < 2) return server;
  const place = all.findIndex(({ in_use: inUse }) => inUse) + 1;
  return t("server.place", { server, place, n: all.length });
}

export function nodeView({ live, session }) {
  const tiles = { meetings: tile("meetings"), serving: tile("traffic"), storage: tile("traffic"), server: tile("config") };
  const bar = meter(t("storage.name"));
  tiles.storage.node.append(bar.node);

  const messages = noticesCard({ live, session });
  const about = facts("facts", "fact", FACTS);
  const state = badge("service-state");
  const start = button(".primary", "start", t("service.start"), { id: "start" });
  const stop = button(".danger", "stop", t("service.stop"), { id: "stop" });

  start.onclick = () => act(start, () => post("/api/service/start"), t("service.started"));
  stop.onclick = async () => {
    const yes = await ask({
      title: t("service.stop.title"), lines: [t("service.stop.what"), t("service.stop.keeps")],
      yes: t("service.stop"), dangerous: true,
    });
    if (yes) act(stop, () => post("/api/service/stop"), t("service.stopped"));
  };

  function update() {
    const { status } = live;
    if (status === null) return;
    showTiles(status);
    messages.update();
    const { running } = status;
    state.show(running ? ["good", "good"] : ["stopped", "none"], t(running ? "service.running" : "service.is.stopped"));
    setAttribute(state.node, "data-state", running ? "running" : "stopped");
    const focused = [start, stop].includes(document.activeElement);
    setHidden(start, running || !session.operator);
    setHidden(stop, !running || !session.operator);
    if (focused) (running ? stop : start).focus({ preventScroll: true });
    showFacts(status);
  }

  function showTiles({ meetings, storage, connected, running, main_server_in_use: server, downloads_under_way: serving }) {
    const active = meetings.filter((meeting) => meeting.active);
    const busy = meetings.filter(isUnderWay).length;
    const failing = active.filter(({ state }) => state === "failing").length;
    const ready = active.filter(isReady).length;
    const [below, n] = failing ? ["failing", failing] : busy ? ["busy", busy] : ["kept", meetings.length];
    tiles.meetings.show(t("tile.meetings"), `${count(ready)} / ${count(active.length)}`, t(`tile.${below}`, { n }), failing ? "warning" : null);
    const [, sent = 0] = live.samples.at(-1) ?? [];
    tiles.serving.show(t("tile.serving"), count(serving), t("tile.rate", { rate: rate(sent / live.step) }));
    const share = storage.used / storage.limit;
    tiles.storage.show(t("storage.name"), percent(share), t("of", { used: bytes(storage.used), limit: bytes(storage.limit) }));
    bar.update({ share, text: percent(share), tone: storage.used >= storage.cleanup_at ? "warning" : null });
    const word = running ? (connected ? "connected" : "disconnected") : "unregistered";
    tiles.server.show(t("fact.main_server"), t(`server.${word}`), server, running && !connected ? "error" : null);
  }

  function showFacts(status) {
    const now = live.now();
    about.show({
      node_id: status.node_id,
      main_server: mainServer(status),
      last_heartbeat: ago(status.last_heartbeat, now),
      last_poll: ago(status.last_poll, now),
      advertised_address: status.advertised_address ?? t("fact.none"),
      node_port: String(status.node_port),
      version: status.version,
      uptime: `${duration(now - status.start_time)}${t("fact.since", { time: dateTime(status.start_time) })}`,
      storage_path: status.storage.path,
      config_file: status.config_file,
    });
  }

  return {
    node: view("overview",
      messages.node,
      el("ul.tiles", Object.values(tiles).map(({ node }) => el("li", node))),
      el("section.card", { "aria-labelledby": "node-title" },
        el("div.card-head",
          el("h2", { id: "node-title" }, t("node"), " ", state.node),
          el("div.buttons", start, stop)),
        about.node)),
    update,
    tick() {
      if (live.status === null) return;
      showFacts(live.status);
      messages.update();
    },
  };
}
