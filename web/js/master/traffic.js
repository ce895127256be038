// Where downloads went: the last minutes as a chart, totals, each node's
// share, and the last ones with the client's address.

import { timeChart } from "../chart.js";
import { el, foreign, keyedList, setChildren, setHidden, setText } from "../dom.js";
import { bytes, clock, count, dateTime, percent } from "../format.js";
import { addTexts, t } from "../i18n.js";
import { meter } from "../meter.js";
import { card, facts, nothing, view } from "../parts.js";
import texts from "../texts/traffic.js";
import { nameOf } from "./health.js";

addTexts(texts);

const TOTALS = ["redirects", "at_nodes", "completed", "broken_off", "own_downloads", "refused_downloads", "under_way", "bytes_served"];
const LOW_DISK = 512 * 2 ** 20;
// The rest is shown when it is asked for, or counted together.
const ROWS = 15;
const SHARES = 12;

const nameFor = (status, node) => (node === null ? t("here") : nameOf(status, node));

function ceiling(largest) {
  for (let power = 1; ; power *= 10) {
    for (const step of [4, 8, 12, 20]) if (step * power >= largest) return step * power;
  }
}

export function trafficView({ live }) {
  const chart = timeChart({
    id: "chart",
    label: t("traffic.chart"),
    series: [
      { name: t("traffic.redirects"), value: ([, redirects]) => redirects },
      { name: t("traffic.own"), value: ([, , own]) => own },
    ],
    format: (value) => count(Math.round(value * 10) / 10),
    ceiling,
  });
  const totals = facts("totals", "total", TOTALS);
  const list = el("ul.shares", { id: "shares" });
  const showShares = keyedList(list, ({ key }) => key, () => shareEntry());
  const noShares = nothing("traffic");
  const rows = el("tbody");
  const table = el("table", { id: "recent" },
    el("thead", el("tr", ["time", "title", "target"].map((name) => el("th", { scope: "col" }, t(`column.${name}`))))), rows);
  const noRecent = nothing("download");
  let most = ROWS;
  const more = el("button.button.quiet", { id: "more", onclick: showAll });
  const refusals = el("tbody");
  const refused = card("refused.title", t("refused.title"), el("p.soft", t("refused.what")),
    el("table", { id: "refused" },
      el("thead", el("tr", ["time", "title", "reason"].map((name) => el("th", { scope: "col" }, t(`column.${name}`))))), refusals));
  const disk = meter(t("storage.name"), { id: "gauge-disk" });
  const diskText = el("p");
  const path = el("p.soft.small");

  function update(event) {
    const { status } = live;
    if (status === null) return;
    if (event !== "status") chart.update(live.samples, live.step);
    const { traffic, nodes, recent, refused_downloads: failed, storage } = status;
    const counts = { ...traffic, ...atNodes(nodes) };
    for (const name of TOTALS) totals.show({ [name]: name === "bytes_served" ? bytes(counts[name]) : count(counts[name]) });

    const shares = [...nodes.map(({ node_id: node, redirects: n }) => ({ node, n })), { node: null, n: traffic.own_downloads }].filter(({ n }) => n > 0);
    shares.sort((a, b) => b.n - a.n);
    const sum = shares.reduce((total, { n }) => total + n, 0);
    const named = shares.slice(0, SHARES).map(({ node, n }) => ({ key: node === null ? "here" : ` ${node}`, n, sum, name: nameFor(status, node) }));
    const others = shares.slice(SHARES);
    const rest = { key: "rest", n: others.reduce((total, { n }) => total + n, 0), sum, name: t("shares.others", { n: others.length }) };
    showShares(others.length > 0 ? [...named, rest] : named);
    noShares.show(shares.length === 0 ? "shares" : "");
    showOnce(table, recent.slice(0, most), showRecent);
    setHidden(more, recent.length <= most);
    setText(more, t("recent.more", { n: recent.length - most }));
    setHidden(refused, failed.length === 0);
    showOnce(refused, failed, showRefused);
    setHidden(table, recent.length === 0);
    noRecent.show(recent.length === 0 ? "recent" : "");

    const { used, free } = storage;
    const text = t("storage.text", { used: bytes(used), free: bytes(free) });
    setText(diskText, text);
    setText(path, storage.path);
    disk.update({ share: free === null ? 0 : used / Math.max(1, used + free), text, tone: free !== null && free < LOW_DISK ? "warning" : null });
  }

  function showAll() {
    most = Infinity;
    update();
    table.querySelector(`tbody > :nth-child(${ROWS})`).scrollIntoView({ block: "center" });
  }

  const title = (id) => live.status.meetings.find((meeting) => meeting.id === id)?.title || id;
  const timeCell = (time) => el("td", el("time", { title: dateTime(time) }, clock(time)));

  function showRefused(failed) {
    setChildren(refusals, failed.map(({ time, meeting, client, reason, count: n }) =>
      el("tr", timeCell(time), el("td", foreign(title(meeting))),
        el("td", client, " · ", t(`refused.${reason}`), n > 1 ? ` × ${count(n)}` : ""))));
  }

  function showRecent(recent) {
    setChildren(rows, recent.map(({ time, meeting, node, client }) =>
      el("tr",
        timeCell(time),
        el("td", foreign(title(meeting))),
        el("td", client, " → ", foreign(nameFor(live.status, node))))));
  }

  const named = (id, ...content) => card(id, t(id), ...content);
  return {
    node: view("traffic",
      named("traffic.chart", chart.node),
      el("div.card", totals.node, el("p.soft.small", t("total.what"))),
      el("div.halves",
        named("shares.title", list, noShares.node),
        card("storage-title", t("storage.name"), disk.node, diskText, path)),
      refused, named("recent.title", table, noRecent.node, more)),
    update,
  };
}

// What nodes say of their downloads; "–" where none of them does.
function atNodes(nodes) {
  const told = nodes.map(({ ended }) => ended).filter(Boolean);
  const sum = (name) => (told.length === 0 ? null : told.reduce((total, ended) => total + ended[name], 0));
  return {
    at_nodes: nodes.reduce((total, { downloads }) => total + downloads, 0),
    completed: sum("completed"), broken_off: sum("broken_off"),
  };
}

// Rows are made anew where they changed, and only then.
function showOnce(place, rows, show) {
  const seen = JSON.stringify(rows);
  if (place.dataset.seen === seen) return;
  place.dataset.seen = seen;
  show(rows);
}

function shareEntry() {
  const name = el("bdi");
  const number = el("strong");
  const share = el("span.soft");
  let bar = null;
  const node = el("li.gauge", name, number, share);
  return {
    node,
    update({ name: text, n, sum }) {
      if (bar === null) name.after((bar = meter(text)).node);
      setText(name, text);
      setText(number, count(n));
      setText(share, percent(n / sum));
      bar.update({ share: n / sum, text: `${count(n)}, ${percent(n / sum)}` });
    },
  };
}
