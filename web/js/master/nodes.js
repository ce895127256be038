// The nodes: whether tablets can be sent to each, how busy it is and what it
// has. And the key that nodes may be asked for (key.js).

import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { ago, count, duration } from "../format.js";
import { t } from "../i18n.js";
import { badge, disclosed, facts, isolated, nothing, view } from "../parts.js";
import { columnsOf } from "../views/found.js";
import { isRunning } from "./health.js";
import { keyCard } from "./key.js";

const FIGURES = ["load", "redirects", "packages", "heard"];
const LOOKS = { reachable: ["good", "good"], unreachable: ["error", "error"], asking: ["wait", "none"] };

export function nodesView({ live }) {
  const list = el("ul", { id: "nodes", "aria-label": t("view.nodes") });
  const head = columnsOf(["node", "state", ...FIGURES]);
  const none = nothing("nodes");
  const key = keyCard();
  const show = keyedList(list, ({ node_id: id }) => id, () => nodeRow(live));

  function update() {
    if (live.status === null) return;
    const { nodes, node_key: asked } = live.status;
    show([...nodes].sort((a, b) => a.node_id.localeCompare(b.node_id)));
    setHidden(head, nodes.length === 0);
    none.show(nodes.length === 0 ? "nodes" : "");
    key.update(asked);
  }

  return {
    node: view("nodes",
      el("section.card.rows", { "aria-label": t("view.nodes") }, head, list, none.node),
      key.node),
    update,
    tick() {
      for (const entry of show.entries()) entry.tick();
    },
  };
}

function nodeRow(live) {
  let node = null;
  const name = foreign("", ".meeting-title");
  const address = foreign("", ".code.soft");
  const site = foreign("", ".small.soft");
  const state = badge();
  const why = el("p.small.soft");
  const figures = facts("meeting-facts", "column", FIGURES);
  const details = disclosed(() => ({
    reason: node.unreachable_reason ?? "–",
    version: node.version ?? t("version.old"),
    uptime: duration(live.now() - node.last_seen + node.uptime),
    site: node.site || "–",
    packages: node.packages.map(titleOf).join(", ") || "–",
  }));
  const titleOf = (id) => isolated(live.status.meetings.find((meeting) => meeting.id === id)?.title || id);
  const row = el("li.meeting.node-row",
    el("div.meeting-name", name, address, site, details.button),
    el("div.meeting-state", state.node, why),
    figures.node,
    details.panel);

  function update(fresh) {
    node = fresh;
    const kind = node.reachable === null ? "asking" : node.reachable ? "reachable" : "unreachable";
    const running = live.status.meetings.filter((meeting) => isRunning(meeting) && meeting.size !== null);
    const held = running.filter((meeting) => node.packages.includes(meeting.id)).length;
    setAttribute(row, "data-node", node.node_id);
    setAttribute(row, "data-state", kind);
    setText(name, node.node_id);
    setText(address, node.address);
    setText(site, node.site ?? "");
    setHidden(site, !node.site);
    // Tablets are sent there only for what it has.
    const has = running.length === 0 ? "idle" : held === 0 ? "bare" : held < running.length ? "some" : "all";
    const isBare = kind === "reachable" && has === "bare";
    state.show(isBare ? LOOKS.asking : LOOKS[kind], t(`reach.${isBare ? "bare" : kind}`));
    setText(why, t(kind === "reachable" ? `reach.has.${has}` : `reach.${kind}.why`));
    figures.show({
      load: count(node.downloads),
      redirects: count(node.redirects),
      packages: running.length ? `${count(held)} / ${count(running.length)}` : "–",
    });
    tick();
  }

  function tick() {
    figures.show({ heard: ago(node.last_seen, live.now()) });
    details.update();
  }

  return { node: row, update, tick };
}
