// The nodes: those that wait to be accepted, all that are known, whether they
// are there or not, and for each whether tablets can be sent to it, how busy it
// is and what it has. And the key that nodes may be asked for (key.js).

import { call } from "../api.js";
import { act, ask, notify } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { ago, count, dateTime, duration, moment } from "../format.js";
import { t } from "../i18n.js";
import { badge, button, disclosed, facts, isolated, view } from "../parts.js";
import { listed } from "../texts/shared.js";
import { foundList } from "../views/found.js";
import { admission, allNodes, isRunning, nodePath } from "./health.js";
import { keyCard } from "./key.js";
import { pendingCard } from "./pending.js";
import { rulesCard } from "./rules.js";

const FIGURES = ["load", "redirects", "packages", "heard"];
const LOOKS = {
  reachable: ["good", "good"], unreachable: ["error", "error"], asking: ["wait", "none"],
  silent: ["error", "error"], awaited: ["wait", "none"], drained: ["pause", "none"],
};

export function nodesView({ live }) {
  const list = foundList({
    of: "nodes",
    columns: ["node", "state", ...FIGURES],
    row: () => nodeRow(live),
    wanted: () => allNodes(live.status).sort((a, b) => isLost(b) - isLost(a)),
    all: () => allNodes(live.status).length,
    why: () => ["nodes", { rule: admission(live.status) }],
    changed: () => list.update(),
    textOf: (node) => [node.id, (node.here ?? node.known).address, node.known?.name, whereOf(node)].join(" "),
  });
  const tools = el("div.tools", list.search);
  const key = keyCard();
  const pending = pendingCard(live);
  const rules = rulesCard(live);

  function update() {
    if (live.status === null) return;
    list.update();
    setHidden(tools, list.search.hidden);
    pending.update();
    rules.update();
    key.update(live.status);
  }

  return {
    node: view("nodes",
      pending.node,
      tools,
      list.node,
      rules.node,
      key.node),
    update,
    tick: () => list.tick(),
  };
}

// A known node that is there is shown by what it reports, another by what is
// known of it.
function kindOf({ known, here }) {
  // It may be switched off.
  if (known?.drained) return "drained";
  if (!here) return known.state === "silent" ? "silent" : "awaited";
  return here.reachable === null ? "asking" : here.reachable ? "reachable" : "unreachable";
}

// Those stand first.
const isLost = (node) => ["silent", "unreachable"].includes(kindOf(node));

function nodeRow(live) {
  let node = null;
  const name = foreign("", ".meeting-title");
  const address = foreign("", ".code.soft");
  const place = foreign("", ".small.soft");
  const state = badge();
  const why = el("p.small.soft");
  const figures = facts("meeting-facts", "column", FIGURES);
  const details = disclosed(() => detailsOf(node, live));
  const edit = button(".quiet", "config", t("node.edit"), { "data-action": "edit", onclick: editNode });
  const remove = button(".quiet.danger", "remove", t("node.remove"), { "data-action": "remove", onclick: askToRemove });
  const row = el("li.meeting.node-row",
    el("div.meeting-name", name, address, place, el("div.node-buttons", details.button, edit, remove)),
    el("div.meeting-state", state.node, why),
    figures.node,
    details.panel);

  async function editNode() {
    const { known } = node;
    const dialog = await import("./node-edit.js").catch(() => null);
    if (dialog) dialog.editDialog(known);
    else notify(t("error.gone"), "error");
  }

  async function askToRemove() {
    const { id, known } = node;
    const yes = await ask({
      title: t("node.remove.title"), name: known.name || id, lines: [t("node.remove.what")],
      yes: t("node.remove"), dangerous: true,
    });
    if (yes) await act(remove, () => call("DELETE", nodePath(id)), t("node.removed"));
  }

  function update(fresh) {
    node = fresh;
    const { id, known, here } = node;
    const kind = kindOf(node);
    const running = live.status.meetings.filter((meeting) => isRunning(meeting) && meeting.size !== null);
    const held = running.filter((meeting) => here?.packages.includes(meeting.id)).length;
    const where = whereOf(node);
    setAttribute(row, "data-node", id);
    setAttribute(row, "data-state", kind);
    setText(name, known?.name || id);
    setText(address, (here ?? known).address);
    setText(place, where);
    setHidden(place, !where);
    // A node that came this second is not saved yet.
    setHidden(edit, !known);
    setHidden(remove, !known);
    // Tablets are sent there only for what it has.
    const has = running.length === 0 ? "idle" : held === 0 ? "bare" : held < running.length ? "some" : "all";
    const isWrong = here?.wrong_packages.length > 0;
    const isBare = kind === "reachable" && has === "bare";
    state.show(isBare ? LOOKS.asking : isWrong ? LOOKS.unreachable : LOOKS[kind], t(`reach.${isBare ? "bare" : kind}`));
    const since = known?.last_seen ? moment(known.last_seen, live.now()) : "";
    setText(why, t(kind === "reachable" ? `reach.has.${isWrong ? "wrong" : has}` : `reach.${kind}.why`, { since }));
    figures.show({
      load: here ? count(here.downloads) : "–",
      redirects: here ? count(here.redirects) : "–",
      packages: here && running.length ? `${count(held)} / ${count(running.length)}` : "–",
    });
    tick();
  }

  function tick() {
    const heard = node.here?.last_seen ?? node.known.last_seen;
    figures.show({ heard: ago(heard, live.now()) });
    details.update();
  }

  return { node: row, update, tick };
}

const whereOf = (node) => listed(node.known?.location, siteOf(node), ...(node.known?.labels ?? []));
const siteOf = ({ known, here }) => known?.site || here?.site || "";

function detailsOf(node, live) {
  const { id, known, here } = node;
  const titleOf = (meeting) => isolated(live.status.meetings.find((other) => other.id === meeting)?.title || meeting);
  return {
    id,
    reason: here?.unreachable_reason ?? "–",
    version: here ? here.version ?? t("version.old") : "–",
    uptime: here ? duration(live.now() - here.last_seen + here.uptime) : "–",
    location: known?.location || "–",
    site: siteOf(node) || "–",
    labels: known?.labels.join(", ") || "–",
    share: known ? t("node.share", known) : "–",
    first_seen: known ? dateTime(known.first_seen) : "–",
    packages: here?.packages.map(titleOf).join(", ") || "–",
  };
}
