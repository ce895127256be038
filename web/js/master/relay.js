// How packages spread from node to node: for each one a tree of who pulls from
// whom, with how far everybody is.

import { el, foreign, keyedList, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { bytes, percent, rate, timeLeft } from "../format.js";
import { t } from "../i18n.js";
import { progress } from "../meter.js";
import { nothing, view } from "../parts.js";
import { listed } from "../texts/shared.js";
import { nameOf } from "./health.js";

// In the place of a node id, which is never empty.
const MAIN_SERVER = "";

export function relayView({ live }) {
  const list = el("div.relays", { id: "relays" });
  const none = nothing("relay");
  const show = keyedList(list, ({ id }) => id, () => relayCard(live));

  function update() {
    if (live.status === null) return;
    const { relays } = live.status;
    show(relays);
    none.show(relays.length === 0 ? "relays" : "");
  }

  return { node: view("relay", el("p.soft", t("relay.what")), list, none.node), update };
}

function relayCard(live) {
  const title = foreign("");
  const bar = progress("");
  const said = el("p.small.soft");
  const tree = el("ul.relay-tree");
  const rest = el("p.small.soft");
  const card = el("section.card.relay", el("h2", title), bar.node, said, tree, rest);
  let nodes = new Map(); // node id -> its place in the tree

  function update({ id, size, missing, depth, pulls }) {
    const meeting = live.status.meetings.find((meeting) => meeting.id === id);
    const name = meeting?.title || id;
    setAttribute(card, "data-meeting", id);
    setText(title, name);
    setAttribute(bar.node, "aria-label", t("relay.of", { title: name }));
    const received = pulls.reduce((sum, { progress: now }) => sum + (now?.received ?? 0), 0);
    bar.update(size ? received / (size * pulls.length) : null);
    const left = pulls.map(({ progress: now }) => secondsLeft(size, now)).filter(Number.isFinite);
    const slowest = left.length === pulls.length ? timeLeft(Math.max(...left)) : "";
    setText(said, listed(t("relay.missing", { n: missing }), t("relay.depth", { n: depth + 1 }), slowest));
    setText(rest, t("relay.rest", { n: missing - pulls.length }));
    setHidden(rest, missing === pulls.length);
    showTree(pulls, size);
  }

  // The list is breadth first: a parent that did not come yet has the package.
  function showTree(pulls, size) {
    const next = new Map();
    const below = new Map(); // node id -> the places of those that pull from it
    const placeOf = (id) => {
      if (!next.has(id)) {
        next.set(id, nodes.get(id) ?? treePlace(id));
        next.get(id).name(id === MAIN_SERVER ? t("here") : nameOf(live.status, id));
        below.set(id, []);
      }
      return next.get(id);
    };
    const known = new Set();
    const tops = [];
    for (const pull of pulls) {
      const from = pull.parent ?? MAIN_SERVER;
      if (!known.has(from)) {
        known.add(from);
        tops.push(placeOf(from));
        placeOf(from).source();
      }
      known.add(pull.node_id);
      const place = placeOf(pull.node_id);
      place.update(pull, size, siteOf(pull.node_id));
      below.get(from).push(place.node);
    }
    for (const [id, place] of next) place.hang(below.get(id));
    nodes = next;
    setChildren(tree, tops.map(({ node }) => node));
  }

  const siteOf = (id) => live.status.nodes.find(({ node_id: other }) => other === id)?.site ?? "";
  return { node: card, update };
}

// The main server or a node, with those that pull from it inside.
function treePlace(id) {
  const title = id === MAIN_SERVER ? el("strong") : foreign("", ".relay-name");
  const site = foreign("", ".relay-site");
  const bar = progress("");
  const said = el("span.small.soft");
  const children = el("ul");
  const node = el("li.relay-node", { "data-node": id === MAIN_SERVER ? null : id }, el("div.relay-row", title, site, bar.node, said), children);
  setHidden(site, true);

  return {
    node,
    name(text) {
      setText(title, text);
      setAttribute(bar.node, "aria-label", t("relay.of", { title: text }));
    },
    // It has the package.
    source() {
      setAttribute(node, "data-state", "source");
      setHidden(bar.node, true);
      setText(said, id === MAIN_SERVER ? "" : t("relay.complete"));
    },
    update({ parent, progress: now }, size, where) {
      setAttribute(node, "data-state", now === null ? "waiting" : "pulling");
      setText(site, where);
      setHidden(site, where === "");
      setHidden(bar.node, now === null);
      if (now === null) return setText(said, t("relay.waiting"));
      bar.update(size ? now.received / size : null);
      const elsewhere = now.source === parent ? "" : t("relay.from", { node: now.source ?? t("here") });
      const much = size ? percent(now.received / size) : bytes(now.received);
      setText(said, listed(much, rate(now.rate), timeLeft(secondsLeft(size, now)), elsewhere));
    },
    hang(nodes) {
      setChildren(children, nodes);
      setHidden(children, nodes.length === 0);
    },
  };
}

function secondsLeft(size, now) {
  if (!size || !now?.rate) return NaN;
  return Math.max(0, size - now.received) / now.rate;
}
