// What the health line says while all is well, the numbers beside it, where a
// problem's answer is to be found; and what both say of meetings and nodes.

import { session } from "../api.js";
import { el, setHidden } from "../dom.js";
import { icon } from "../icons.js";
import { t } from "../i18n.js";
import { healthView } from "../views/health.js";

export const isRunning = ({ status }) => status === "进行中";
// Where there are no nodes, that is a problem of its own.
export const isEverywhere = ({ readiness }) => readiness === null || readiness.total === 0 || readiness.is_ready;

// Known nodes and those that have just come: what is known of each, and what it reports
// if it is there.
export function allNodes({ fleet, nodes }) {
  const all = new Map(fleet.map((known) => [known.id, { id: known.id, known, here: null }]));
  for (const here of nodes) all.set(here.node_id, { known: null, ...all.get(here.node_id), id: here.node_id, here });
  return [...all.values()];
}

// An operator's word counts before the node's own.
export const siteOf = ({ known, here }) => known?.site || here?.site || "";

export const nodePath = (id) => `/api/v1/fleet/nodes/${encodeURIComponent(id)}`;

// How nodes become nodes of this main server, as far as no key is required.
export const admission = ({ policy }) => t(policy === "open" ? "policy.open" : "policy.approve");

// Replaced as a whole whenever a node in it changes (live.js).
const names = new WeakMap();

// The name that an operator gave a node, or else its id.
export function nameOf({ fleet }, id) {
  if (!names.has(fleet)) names.set(fleet, new Map(fleet.map((known) => [known.id, known.name])));
  return names.get(fleet).get(id) || id;
}

function sentence(status) {
  const running = status.meetings.filter(isRunning);
  if (running.length === 0) return t("health.idle");
  return t(running.every(isEverywhere) ? "health.good" : "health.busy");
}

const numbers = (status) => {
  const { meetings, traffic } = status;
  return t("health.more", { running: meetings.filter(isRunning).length, nodes: allNodes(status).length, busy: traffic.under_way });
};

const VIEW_OF = {
  meeting_without_package: "meetings", node_unreachable: "nodes", node_wrong_content: "nodes", no_nodes: "nodes", limit_reached: "nodes",
  node_silent: "nodes", node_keeps_running: "nodes", node_moves: "nodes", nodes_pending: "nodes", nodes_accepted: "nodes", open_nodes: "nodes",
};

const linkOf = ({ code }) =>
  code in VIEW_OF ? el("a", { href: `#/${VIEW_OF[code]}` }, t(`link.${VIEW_OF[code]}`), icon("link")) : null;

function named(problem, status) {
  const { node, nodes } = problem;
  const ids = nodes?.split(", ").map((id) => nameOf(status, id));
  return { ...problem, node: node && nameOf(status, node), nodes: ids?.join(", ") };
}

// Nothing at all for who is not logged in.
export function health(context) {
  const view = healthView(context, { good: sentence, more: numbers, extra: linkOf, home: "overview", named });
  return {
    ...view,
    update(shown) {
      setHidden(view.node.parentElement, !session.operator);
      view.update(shown);
    },
  };
}
