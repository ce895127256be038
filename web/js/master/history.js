// What was: downloads and nodes of the last thirty days, and the changes that operators
// made. Loaded when it is first looked at.

import { get } from "../api.js";
import { sentenceOf } from "../dialog.js";
import { el, foreign, setChildren, setHidden } from "../dom.js";
import { bytes, count, date, dateTime } from "../format.js";
import { addTexts, known, t } from "../i18n.js";
import { button, card, complain, nothing, view } from "../parts.js";
import texts from "../texts/history.js";
import { nameOf } from "./health.js";

const PATH = "/api/v1/audit";
const REFRESH_MS = 5000;
const PERIODS = "/api/v1/history";
// A period is written once a minute.
const PERIODS_MS = 60_000;

addTexts(texts);

export function historyView({ live }) {
  const [days, changes] = [daysCard(), changesCard(live)];
  const update = () => [days, changes].forEach((part) => part.update());
  return { node: view("history", days.node, changes.node), update };
}

const COLUMNS = ["day", "redirects", "own_downloads", "refused_downloads", "bytes_served", "nodes", "running_meetings"];

// Each day of the last thirty, the newest first.
function daysCard() {
  const rows = el("tbody");
  const table = el("table", { id: "days" },
    el("thead", el("tr", COLUMNS.map((name) => el("th", { scope: "col" }, t(`days.${name}`))))), rows);
  const none = nothing("traffic");
  const wrong = el("p.wrong", { role: "alert" });
  const file = (step) => el("a.button.quiet", { href: `${PERIODS}?format=csv&step=${step}`, download: "" }, t(`days.csv.${step}`));
  const meetings = el("a.button.quiet", { href: `${PERIODS}/meetings?format=csv`, download: "" }, t("days.csv.meetings"));
  const node = card("days.title", t("days.title"), el("div.scroll", table), none.node, wrong,
    el("p.soft.small", t("days.what")), el("div.buttons", file("hour"), file("minute"), meetings));
  let asked = -Infinity;

  async function refresh() {
    asked = performance.now();
    try {
      const days = daysOf((await get(PERIODS)).periods);
      complain(wrong, "");
      setChildren(rows, days.map(dayRow));
      setHidden(table, days.length === 0);
      none.show(days.length === 0 ? "days" : "");
    } catch (error) {
      complain(wrong, sentenceOf(error));
    }
  }

  setHidden(table, true);
  return {
    node,
    update() {
      if (performance.now() - asked > PERIODS_MS) refresh();
    },
  };
}

function daysOf(periods) {
  const days = new Map();
  for (const period of periods) {
    const name = date(period.at);
    const day = days.get(name);
    if (day === undefined) {
      days.set(name, { name, ...period });
      continue;
    }
    for (const sum of ["redirects", "own_downloads", "refused_downloads", "bytes_served"]) day[sum] += period[sum];
    day.nodes = Math.min(day.nodes, period.nodes);
    day.running_meetings = Math.max(day.running_meetings, period.running_meetings);
  }
  return [...days.values()].reverse();
}

const dayRow = (day) => el("tr", { "data-day": day.name },
  el("th", { scope: "row" }, day.name),
  COLUMNS.slice(1).map((name) => el("td", { "data-name": t(`days.${name}`) }, name === "bytes_served" ? bytes(day[name]) : count(day[name]))));

function changesCard(live) {
  const rows = el("tbody");
  const table = el("table", { id: "changes" },
    el("thead", el("tr", ["when", "change", "who"].map((name) => el("th", { scope: "col" }, t(`changes.${name}`))))), rows);
  const none = nothing("logs");
  const wrong = el("p.wrong", { role: "alert" });
  const more = button(".quiet", "show", t("changes.more"), { "data-action": "more", onclick: earlier });
  const file = el("a.button.quiet", { href: `${PATH}?format=csv`, download: "" }, t("changes.csv"));
  const node = card("changes.title", t("changes.title"), el("p.soft", t("changes.what")), table, none.node, wrong,
    el("div.buttons", more, file));
  let shown = []; // the newest first
  let next = null;
  let asked = -Infinity;
  let seen = "";

  async function fetchPage(query) {
    try {
      const page = await get(`${PATH}${query}`);
      complain(wrong, "");
      return page;
    } catch (error) {
      complain(wrong, sentenceOf(error));
      return null;
    }
  }

  // The newest ones, in front of those that are shown already.
  async function refresh() {
    asked = performance.now();
    const page = await fetchPage("");
    if (page === null) return;
    const oldest = page.changes.at(-1)?.number ?? 0;
    const rest = shown.filter(({ number }) => number < oldest);
    if (rest.length === 0) next = page.next;
    show([...page.changes, ...rest]);
  }

  async function earlier() {
    const page = await fetchPage(`?before=${next}`);
    if (page === null) return;
    next = page.next;
    show([...shown, ...page.changes]);
  }

  function show(changes) {
    shown = changes;
    const now = JSON.stringify([changes.map(({ number }) => number), next]);
    if (now === seen) return;
    seen = now;
    const nameOfSubject = namesIn(changes, live.status);
    setChildren(rows, changes.map((change) => row(change, nameOfSubject(change))));
    setHidden(table, changes.length === 0);
    none.show(changes.length === 0 ? "changes" : "");
    setHidden(more, next === null);
  }

  setHidden(table, true);
  setHidden(more, true);
  return {
    node,
    update() {
      if (performance.now() - asked > REFRESH_MS) refresh();
    },
  };
}

// Titles of meetings and names of nodes, also of meetings that were deleted since, where the
// list has their beginning.
function namesIn(changes, status) {
  const made = changes.filter(({ details }) => details.title).map(({ subject, details }) => [subject, details.title]);
  const titles = new Map([...made, ...(status?.meetings ?? []).map(({ id, title }) => [id, title])]);
  return ({ action, subject }) => {
    if (action.startsWith("node_")) return status && nameOf(status, subject);
    return titles.get(subject);
  };
}

function row({ number, at, by, action, subject, details }, name) {
  const what = known(`changes.did.${action}`) ? t(`changes.did.${action}`) : action;
  return el("tr", { "data-change": number },
    el("td", el("time", dateTime(at))),
    el("td", what, subject === null ? null : [" ", el("strong", foreign(name || subject)), name && name !== subject ? [" ", foreign(subject, ".code.soft")] : null], el("div.soft.small", detailsOf(details))),
    el("td", foreign(by.address), " ", el("span.soft.small", t(`changes.how.${by.how}`))));
}

function detailsOf(details) {
  const entries = Object.entries(details).map(([name, value]) => {
    const label = known(`changes.detail.${name}`) ? t(`changes.detail.${name}`) : name;
    return t("changes.pair", { name: label, value: name === "sha256" ? `${value.slice(0, 12)}…` : valueOf(value) });
  });
  return entries.join(t("changes.between"));
}

function valueOf(value) {
  if (typeof value === "boolean") return t(value ? "changes.yes" : "changes.no");
  if (Array.isArray(value)) return value.every((item) => typeof item !== "object") ? value.join(", ") : String(value.length);
  return value === "" || value === null ? "–" : String(value);
}
