// The first view: who is ready for which meeting, how things stand at a glance,
// what to do first, and what this main server is.

import { el, setAttribute, setHidden, setText } from "../dom.js";
import { bytes, count, dateTime, duration } from "../format.js";
import { icon } from "../icons.js";
import { t } from "../i18n.js";
import { card, facts, tile, view } from "../parts.js";
import { listed } from "../texts/shared.js";
import { boardCard } from "./board.js";
import { optionsTable } from "./options.js";
import { admission, allNodes, isEverywhere, isRunning } from "./health.js";

// Of no use to others as the address of this machine.
const LOOPBACK = /^(localhost|127\..*|\[::1\])$/;
const FACTS = ["address", "version", "uptime", "data", "main_servers", "node_key"];

export function overviewView({ live }) {
  const port = location.port || (location.protocol === "https:" ? "443" : "80");
  const address = LOOPBACK.test(location.hostname) ? t("address.own", { port }) : location.host;
  const tiles = { meetings: tile("meetings"), nodes: tile("nodes"), traffic: tile("traffic"), storage: tile("traffic") };
  const board = boardCard({ live });
  const about = facts("facts", "fact", FACTS);
  const options = optionsTable();
  const step = (name, view) => {
    const drawn = icon("wait");
    return [name, el("li.first-step", drawn,
      el("div", el("strong", t(`first.${name}`)), el("p.soft", t(`first.${name}.how`))),
      el("a.button.quiet", { href: `#/${view}` }, t(`link.${view}`), icon("link")))];
  };
  const steps = Object.fromEntries([
    step("node", "nodes"),
    step("meeting", "meetings"),
    step("start", "meetings"),
  ]);
  const first = card("first-title", t("first.name"), el("ol.first-steps", Object.values(steps)));
  first.id = "first";

  function update() {
    const { status } = live;
    if (status === null) return;
    board.update();
    showTiles(status);
    showFacts();
    options.show(status.options);
    const { meetings, nodes } = status;
    const done = {
      node: nodes.length > 0,
      meeting: meetings.some(({ size }) => size !== null),
      start: meetings.some(({ started_at: begun }) => begun !== null),
    };
    setHidden(first, Object.values(done).every(Boolean));
    setText(steps.node.querySelector("p"), t("first.node.how", { address, rule: admission(status) }));
    for (const [name, node] of Object.entries(steps)) {
      setAttribute(node, "data-tone", done[name] ? "good" : "none");
      node.firstChild.replaceWith(icon(done[name] ? "good" : "wait"));
    }
  }

  function showTiles(status) {
    const { meetings, nodes, traffic, storage } = status;
    const running = meetings.filter(isRunning);
    const ready = running.filter((meeting) => meeting.size !== null && isEverywhere(meeting)).length;
    const bare = running.some(({ size }) => size === null);
    const early = meetings.filter(({ prestaged }) => prestaged);
    const spread = early.filter((meeting) => nodes.length > 0 && isEverywhere(meeting)).length;
    const now = running.length && nodes.length ? t("tile.everywhere", { n: ready }) : t("tile.all", { n: meetings.length });
    tiles.meetings.show(t("tile.running"), count(running.length),
      early.length ? listed(now, t("tile.spread", { n: early.length, ready: spread })) : now, bare ? "error" : null);
    const all = allNodes(status);
    const used = all.filter(({ known }) => !known?.drained);
    const reached = used.filter(({ here }) => here?.reachable === true).length;
    const cut = used.filter(({ here }) => here?.reachable === false).length;
    const silent = used.filter(({ known, here }) => !here && known.state === "silent").length;
    const drained = all.length - used.length;
    const below = silent ? t("tile.silent", { n: silent })
      : cut ? t("tile.cut", { n: cut })
      : drained ? t("tile.drained", { n: drained }) : t(all.length > 0 ? "tile.heard" : "empty.nodes");
    tiles.nodes.show(t("tile.reached"), `${count(reached)} / ${count(all.length)}`, below, silent ? "error" : cut ? "warning" : null);
    const failed = traffic.refused_downloads;
    tiles.traffic.show(t("total.redirects"), count(traffic.redirects),
      listed(t("tile.own", { n: traffic.own_downloads }), failed && t("tile.failed", { n: failed })));
    tiles.storage.show(t("storage.name"), bytes(storage.used), t("storage.free", { free: bytes(storage.free) }));
  }

  function showFacts() {
    const { version, started, data, node_key: asked, main_servers: servers } = live.status;
    about.show({
      address,
      version,
      uptime: `${duration(live.now() - started)}${t("fact.since", { time: dateTime(started) })}`,
      data,
      main_servers: count(servers),
      node_key: t(asked ? "key.on" : "key.off"),
    });
    setHidden(about.values.main_servers.closest("div"), servers === 1);
  }

  return {
    node: view("overview",
      board.node,
      el("ul.tiles", Object.values(tiles).map(({ node }) => el("li", node))),
      first,
      card("about-title", t("about"), about.node, options.node)),
    update,
    tick: () => live.status && showFacts(),
  };
}
