// The nodes: those that wait to be accepted, all that are known, whether they
// are there or not, and for each whether tablets can be sent to it, how busy it
// is and what it has. And the key that nodes may be asked for (key.js).

import { call } from "../api.js";
import { act, ask, notify } from "../dialog.js";
import { el, foreign, setAttribute, setHidden, setText } from "../dom.js";
import { ago, count, dateTime, duration, moment } from "../format.js";
import { t } from "../i18n.js";
import { badge, button, disclosed, facts, filterChips, isolated, titleOf } from "../parts.js";
import { listed } from "../texts/shared.js";
import { foundList } from "../views/found.js";
import { admission, allNodes, isRunning, nodePath, siteOf } from "./health.js";
import { keyCard } from "./key.js";
import { loadedCard } from "./loaded.js";
import { pendingCard } from "./pending.js";
import { detailOf } from "./readiness.js";

const FIGURES = ["load", "redirects", "packages", "heard"];
const LOOKS = {
  reachable: ["good", "good"], unreachable: ["error", "error"], asking: ["wait", "none"], bare: ["wait", "none"],
  silent: ["error", "error"], awaited: ["wait", "none"], drained: ["pause", "none"],
  failing: ["error", "error"], wrong: ["error", "error"],
};
const TROUBLE = ["silent", "unreachable", "failing", "wrong"];
const FILTERS = {
  all: () => true,
  trouble: ({ kind }) => TROUBLE.includes(kind),
  lacking: ({ held, wanted, here }) => here !== null && held < wanted,
  drained: ({ kind }) => kind === "drained",
};
const ORDERS = {
  state: (a, b) => TROUBLE.includes(b.kind) - TROUBLE.includes(a.kind) || byName(a, b),
  name: (a, b) => byName(a, b),
  site: (a, b) => compare(siteOf(a), siteOf(b)) || byName(a, b),
  load: (a, b) => (b.here?.downloads ?? -1) - (a.here?.downloads ?? -1) || byName(a, b),
};
const { compare } = new Intl.Collator(undefined, { numeric: true });
const byName = (a, b) => compare(a.name, b.name) || compare(a.id, b.id);

export function nodesView({ live }) {
  let all = [];
  const filters = filterChips("filter", "filter.name", Object.keys(FILTERS), () => list.narrowed());
  const order = el("select", { "aria-label": t("board.order"), onchange: () => list.narrowed() },
    Object.keys(ORDERS).map((name) => el("option", { value: name }, t(`order.${name}`))));
  const list = foundList({
    of: "nodes",
    columns: ["node", "state", ...FIGURES, "actions"],
    row: () => nodeRow(live),
    wanted: () => all.filter(FILTERS[filters.chosen()]).sort(ORDERS[order.value]),
    all: () => all.length,
    why: () => ["nodes", { rule: admission(live.status) }],
    changed: () => list.update(),
    textOf: (node) => [node.id, (node.here ?? node.known).address, node.known?.name, whereOf(node)].join(" "),
  });
  const tools = el("div.tools", filters.node, order, list.search);
  const key = keyCard();
  const pending = pendingCard(live);
  const groups = loadedCard(async () => (await import("./groups.js")).groupsCard(live));
  const virtual = loadedCard(async () => (await import("./virtual.js")).virtualCard());
  const rules = loadedCard(async () => (await import("./rules.js")).rulesCard(live));
  // They stand below all the nodes.
  const jump = (card, words) => button(".quiet", "down", t(words), { onclick: () => {
    card.scrollIntoView();
    card.querySelector("button")?.focus({ preventScroll: true });
  } });

  function update(event) {
    if (live.status === null) return;
    all = nodesOf(live.status);
    filters.show((name) => all.filter(FILTERS[name]).length);
    list.update();
    setHidden(tools, list.search.hidden);
    pending.update();
    groups.update(event);
    virtual.update(event);
    rules.update(event);
    key.update(live.status);
  }

  return {
    node: el("div.view",
      el("div.view-head", titleOf("nodes"), el("div.buttons", jump(groups.node, "groups.name"), jump(virtual.node, "virtual.name"), jump(rules.node, "rules.name"), jump(key.node, "key.name"))),
      pending.node,
      tools,
      list.node,
      groups.node,
      virtual.node,
      rules.node,
      key.node),
    update,
    tick: () => list.tick(),
  };
}

// All nodes, each with its state and how many of the packages that are wanted it has.
function nodesOf(status) {
  const running = status.meetings.filter((meeting) => isRunning(meeting) && meeting.size !== null);
  const failures = new Map();
  for (const meeting of status.meetings) {
    for (const lacking of meeting.readiness?.lacking ?? []) {
      if (lacking.state === "failing") failures.set(lacking.node_id, { meeting, lacking });
    }
  }
  return allNodes(status).map((node) => {
    const held = running.filter(({ id }) => node.here?.packages.includes(id)).length;
    const failure = failures.get(node.id) ?? null;
    const seen = { ...node, name: node.known?.name || node.id, held, wanted: running.length, failure };
    return { ...seen, kind: kindOf(seen) };
  });
}

// A known node that is there is shown by what it reports, another by what is
// known of it.
function kindOf({ known, here, failure, held, wanted }) {
  // It may be switched off.
  if (known?.drained) return "drained";
  if (!here) return known.state === "silent" ? "silent" : "awaited";
  if (here.reachable === null) return "asking";
  if (!here.reachable) return "unreachable";
  if (here.wrong_packages.length > 0) return "wrong";
  if (failure !== null) return "failing";
  // Tablets are sent there only for what it has.
  return wanted > 0 && held === 0 ? "bare" : "reachable";
}

function nodeRow(live) {
  let node = null;
  const name = foreign("", ".meeting-title");
  const address = foreign("", ".code.soft");
  const place = foreign("", ".small.soft");
  const state = badge();
  const why = el("p.small.soft");
  const figures = facts("meeting-facts", "column", FIGURES);
  const edit = button(".quiet", "config", t("node.edit"), { "data-action": "edit", onclick: editNode });
  const remove = button(".danger", "remove", t("node.remove"), { "data-action": "remove", onclick: askToRemove });
  const details = disclosed(() => detailsOf(node, live), remove);
  const row = el("li.meeting.node-row",
    el("div.meeting-name", name, el("div.meeting-sub", address, place)),
    el("div.meeting-state", state.node, why),
    figures.node,
    el("div.node-buttons", edit, details.button),
    details.panel);

  async function editNode() {
    const { known } = node;
    const dialog = await import("./node-edit.js").catch(() => null);
    if (dialog) dialog.editDialog(known);
    else notify(t("error.gone"), "error");
  }

  async function askToRemove() {
    const { id } = node;
    const yes = await ask({
      title: t("node.remove.title"), name: node.name, lines: [t("node.remove.what")],
      yes: t("node.remove"), dangerous: true,
    });
    if (yes) await act(remove, () => call("DELETE", nodePath(id)), t("node.removed"));
  }

  function reason() {
    const { kind, known, held, wanted, failure } = node;
    const has = wanted === 0 ? "idle" : held < wanted ? "some" : "all";
    if (kind === "failing") return t("reach.failing.why", { title: isolated(failure.meeting.title || failure.meeting.id), why: detailOf(failure.lacking) });
    const since = known?.last_seen ? moment(known.last_seen, live.now()) : "";
    return t(kind === "reachable" ? `reach.has.${has}` : `reach.${kind}.why`, { since });
  }

  function update(fresh) {
    node = fresh;
    const { id, known, here, kind, held, wanted } = node;
    const where = whereOf(node);
    setAttribute(row, "data-node", id);
    setAttribute(row, "data-state", kind);
    setText(name, node.name);
    setText(address, (here ?? known).address);
    setText(place, where);
    setHidden(place, !where);
    // A node that came this second is not saved yet.
    setHidden(edit, !known);
    setHidden(remove, !known);
    for (const control of [edit, details.button, remove]) setAttribute(control, "aria-label", `${control.lastChild.textContent}: ${node.name}`);
    state.show(LOOKS[kind], t(`reach.${kind}`));
    setText(why, reason());
    figures.show({
      load: here ? count(here.downloads) : "–",
      redirects: here ? count(here.redirects) : "–",
      packages: here && wanted ? `${count(held)} / ${count(wanted)}` : "–",
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

function detailsOf(node, live) {
  const { id, known, here } = node;
  const titleOf = (meeting) => isolated(live.status.meetings.find((other) => other.id === meeting)?.title || meeting);
  return {
    id,
    reason: here?.unreachable_reason ?? "–",
    version: here ? here.version ?? t("version.old") : "–",
    uptime: here ? duration(live.now() - here.last_seen + here.uptime) : "–",
    results: here?.ended ? t("node.ended", { n: count(here.ended.completed), broken: count(here.ended.broken_off) }) : "–",
    location: known?.location || "–",
    site: siteOf(node) || "–",
    labels: known?.labels.join(", ") || "–",
    share: known ? t("node.share", known) : "–",
    first_seen: known ? dateTime(known.first_seen) : "–",
    packages: here?.packages.map(titleOf).join(", ") || "–",
  };
}
