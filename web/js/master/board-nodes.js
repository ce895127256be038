// The nodes of one meeting on the board, by site: two hundred fit on one screen.

import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { ago, timeLeft } from "../format.js";
import { t } from "../i18n.js";
import { icon, setIcon } from "../icons.js";
import { filterChips } from "../parts.js";
import { listed } from "../texts/shared.js";
import { nameOf } from "./health.js";
import { detailOf } from "./readiness.js";

// Most urgent first.
const STATES = ["failing", "away", "unreachable", "waiting", "pulling", "ready"];
const LOOKS = {
  failing: ["error", "error"],
  away: ["error", "error"],
  unreachable: ["warning", "warning"],
  waiting: ["wait", "none"],
  pulling: ["sync", "busy"],
  ready: ["good", "good"],
};
const FILTERS = {
  all: () => true,
  lacking: ({ state }) => state !== "ready",
  failing: ({ state }) => ["failing", "unreachable", "away"].includes(state),
  away: ({ state }) => state === "away",
};
// So few that there is room for the time left, too.
const ROOMY = 60;
const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
const ORDERS = {
  state: (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || byName(a, b),
  name: byName,
  progress: (a, b) => (a.percent ?? 0) - (b.percent ?? 0) || byName(a, b),
};

export function boardNodes(live) {
  let meeting = null;
  const search = el("input", { type: "search", "aria-label": t("board.search"), placeholder: t("board.search"), oninput: show });
  const order = el("select", { "aria-label": t("board.order"), onchange: show },
    Object.keys(ORDERS).map((name) => el("option", { value: name }, t(`board.order.${name}`))));
  const filters = filterChips("board.filter", "board.filter", Object.keys(FILTERS), show);
  const sites = el("div.board-sites");
  const showSites = keyedList(sites, ({ site }) => site, () => siteGroup(live));
  const rest = el("p.small.soft", { role: "status" });
  const node = el("div", el("div.tools", filters.node, order, search), sites, rest);

  // Those that are not listed as lacking it have it, where all that lack it are listed.
  function nodesOf({ readiness, nodes }) {
    const { lacking, total, ready } = readiness;
    const named = (node) => ({ ...node, name: nameOf(live.status, node.node_id) });
    if (lacking.length < total - ready) return lacking.map(named);
    const others = new Set(lacking.map(({ node_id: id }) => id));
    const sites = new Map(live.status.nodes.map(({ node_id: id, site }) => [id, site ?? ""]));
    const rest = nodes.filter((id) => !others.has(id) && sites.has(id));
    return [...lacking, ...rest.map((id) => ({ node_id: id, site: sites.get(id), state: "ready", percent: 100, seconds_left: null }))].map(named);
  }

  function show() {
    if (meeting === null) return;
    const all = nodesOf(meeting);
    filters.show((name) => all.filter(FILTERS[name]).length);
    const text = search.value.trim().toLowerCase();
    const wanted = all.filter((node) => FILTERS[filters.chosen()](node) && `${node.name} ${node.node_id} ${node.site}`.toLowerCase().includes(text));
    wanted.sort(ORDERS[order.value]);
    const groups = new Map();
    for (const node of wanted) groups.set(node.site, [...(groups.get(node.site) ?? []), node]);
    const named = [...groups].sort(([a], [b]) => (a === "") - (b === "") || a.localeCompare(b, undefined, { numeric: true }));
    const isRoomy = wanted.length <= ROOMY;
    showSites(named.map(([site, nodes]) => ({ site, nodes: nodes.map((node) => ({ ...node, isRoomy })), isOnly: groups.size === 1 && site === "" })));
    const left = meeting.readiness.total - all.length;
    setText(rest, wanted.length === 0 ? t("board.nobody") : left > 0 ? t("relay.rest", { n: left }) : "");
  }

  return {
    node,
    update(fresh) {
      meeting = fresh;
      show();
    },
  };
}

function siteGroup(live) {
  const name = foreign("");
  const number = el("span.soft.small");
  const head = el("h3.board-site", name, number);
  const list = el("ul.board-cells");
  const show = keyedList(list, ({ node_id: id }) => id, () => nodeCell(live));
  return {
    node: el("section", head, list),
    update({ site, nodes, isOnly }) {
      setHidden(head, isOnly);
      setText(name, site || t("board.elsewhere"));
      setText(number, t("board.site", { ready: nodes.filter(({ state }) => state === "ready").length, n: nodes.length }));
      show(nodes);
    },
  };
}

function nodeCell(live) {
  const drawn = icon("wait");
  const name = foreign("", ".board-node");
  const figure = el("span.board-figure");
  const spoken = el("span.spoken");
  const node = el("li.board-cell", drawn, name, spoken, figure);
  return {
    node,
    update(shown) {
      const { node_id: id, name: given, state, percent, since, seconds_left: left, isRoomy } = shown;
      const [drawing, tone] = LOOKS[state];
      const detail = detailOf(shown);
      const words = t(`readiness.${state}`);
      const when = state === "away" && since !== null ? ago(since, live.now()) : "";
      // What an operator has to act on is written out; the rest is a figure.
      const isWide = (state === "failing" || state === "unreachable") && detail !== "";
      setAttribute(node, "data-node", id);
      setAttribute(node, "data-state", state);
      setAttribute(node, "data-tone", tone);
      node.toggleAttribute("data-wide", isWide);
      setIcon(drawn, drawing);
      setText(name, given);
      setText(spoken, isWide ? "" : `, ${words} `);
      const isTimed = isRoomy && state === "pulling" && left !== null;
      node.toggleAttribute("data-timed", isTimed);
      const progress = percent === null ? "" : listed(`${percent} %`, isTimed && timeLeft(left));
      const short = state === "pulling" ? progress : state === "away" ? when : "";
      setText(figure, isWide ? listed(words, detail) : short);
      setAttribute(node, "title", listed(given, given !== id && id, words, when, detail));
    },
  };
}
