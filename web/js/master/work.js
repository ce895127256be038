// Remote tasks: what nodes do for operators. A form that has one done, the nodes that do them, and
// the tasks, of which one is open with its runs. Loaded when it is first looked at.

import { get, post } from "../api.js";
import { act, sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { count } from "../format.js";
import { addTexts, half, t } from "../i18n.js";
import { button, card, complain, filterChips, nothing, view } from "../parts.js";
import texts from "../texts/work.js";
import { nameOf } from "./health.js";
import { PATH, workRow } from "./work-row.js";

const REFRESH_MS = 2000;
const PAGE = 20;
const MAX_TASKS = 1000;
const STATES = ["queued", "running", "cancelling", "succeeded", "partial", "failed", "cancelled"];
const NUMBERS = ["integer", "number"];

addTexts(texts);

export function workView({ live }) {
  const tasks = tasksCard(live);
  const form = runForm((id) => tasks.refresh(id));
  const nodes = nodesCard(live);
  let asked = -Infinity;

  // Types and nodes come and go.
  async function refresh() {
    asked = performance.now();
    try {
      const { types, nodes: workers } = await get(`${PATH}/types`);
      form.show(types);
      nodes.show(workers);
    } catch {
      // The list below says what is wrong.
    }
  }

  function tick() {
    if (document.hidden || live.connection === "away") return;
    if (performance.now() - asked > REFRESH_MS) refresh();
    tasks.tick();
  }

  return { node: view("work", form.node, nodes.node, tasks.node), update: tick, tick };
}

function runForm(created) {
  const type = el("select", { id: "work-type", onchange: choose });
  const spread = el("select", { id: "work-spread" }, ["best", "every"].map((name) => el("option", { value: name }, t(`run.spread.${name}`))));
  const fields = el("div.fields");
  const wrong = el("p.wrong", { role: "alert" });
  const send = button(".primary", "start", t("run.send"), { "data-action": "run", onclick: run });
  const what = el("p.soft.small", t("run.what"));
  const form = el("div.fields", field("work-type", t("run.type"), type), fields, field("work-spread", t("run.spread.label"), spread), wrong, el("div.buttons", send));
  const none = el("p.soft", t("run.none"));
  const node = card("work-run-title", t("run.title"), what, none, form);
  let types = [];
  let shown = "";

  function show(fresh) {
    types = fresh;
    setHidden(none, types.length > 0);
    setHidden(form, types.length === 0);
    const now = JSON.stringify(types.map(({ name, title, parameters }) => [name, title, parameters]));
    if (now === shown) return;
    shown = now;
    const before = type.value;
    setChildren(type, types.map(({ name, title }) => el("option", { value: name }, title ? `${half(title)} (${name})` : name)));
    if (types.some(({ name }) => name === before)) type.value = before;
    choose();
  }

  function choose() {
    const { parameters = [] } = types.find(({ name }) => name === type.value) ?? {};
    setChildren(fields, parameters.map((parameter) => field(`work-${parameter.name}`, parameter.name + (parameter.required ? "" : t("run.optional")), input(parameter))));
  }

  function input({ name, kind, values = [] }) {
    const attributes = { id: `work-${name}`, "data-parameter": name, "data-kind": kind };
    const choices = kind === "boolean" ? ["true", "false"] : values;
    if (choices.length === 0) return el("input", { ...attributes, type: NUMBERS.includes(kind) ? "number" : "text", step: "any" });
    return el("select", attributes, ["", ...choices].map((value) => el("option", { value }, value)));
  }

  function parameters() {
    const given = [...fields.querySelectorAll("[data-parameter]")].filter(({ value }) => value !== "");
    return Object.fromEntries(given.map(({ value, dataset }) => [dataset.parameter, read(value, dataset.kind)]));
  }

  // What is no JSON is refused by the node, which says so.
  function read(text, kind) {
    if (!NUMBERS.includes(kind) && kind !== "boolean" && kind !== "other") return text;
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  async function run() {
    complain(wrong, "");
    const body = { type: type.value, parameters: parameters(), spread: spread.value };
    if (body.spread === "every") body.to = { all: true };
    const task = await act(send, () => post(PATH, body), t("run.sent"));
    if (task) created(task.id);
  }

  setHidden(form, true);
  return { node, show };
}

const field = (id, name, input) => el("div.field", el("label", { for: id }, name), input);

function nodesCard(live) {
  const list = el("ul.task-nodes", { "aria-label": t("workers.title") });
  const show = keyedList(list, ({ node_id: id }) => id, () => {
    const name = foreign("", ".task-node-name");
    const words = el("span.small");
    const bar = el("progress.progress", { "aria-hidden": "true" });
    const node = el("li.task-node", { "data-worker": "" }, name, words, bar);
    return {
      node,
      update({ node_id: id, running, places }) {
        setAttribute(node, "data-worker", id);
        setText(name, nameOf(live.status, id));
        setText(words, t("workers.load", { running: count(running), places: count(places) }));
        Object.assign(bar, { max: Math.max(places, 1), value: running });
      },
    };
  });
  const none = el("p.soft", t("workers.none"));
  const node = card("work-nodes-title", t("workers.title"), list, none);
  return {
    node,
    show(workers) {
      show(workers);
      setHidden(none, workers.length > 0);
    },
  };
}

function tasksCard(live) {
  const filters = filterChips("work-state", "work.filter", ["all", ...STATES], () => refresh());
  const list = el("ul.messages", { id: "work", "aria-label": t("work.name") });
  const show = keyedList(list, ({ id }) => id, () => workRow(live, { refresh, toggle, isOpen: (id) => id === open }));
  const none = nothing("files");
  const wrong = el("p.wrong", { role: "alert" });
  const more = button(".quiet", "show", t("work.earlier"), { "data-action": "more", onclick: earlier });
  const node = card("work-title", t("work.title"), filters.node, list, none.node, wrong, el("div.buttons", more));
  let shown = [];
  let open = null; // the id of the task whose runs are shown
  let wanted = PAGE;
  let asked = -Infinity;
  let round = 0; // answers that are overtaken by another are dropped

  // `id`: of one that is opened when it is there.
  async function refresh(id = null) {
    const mine = ++round;
    asked = performance.now();
    const status = filters.chosen() === "all" ? "" : `&status=${filters.chosen()}`;
    try {
      const { tasks, next } = await get(`${PATH}?limit=${wanted}${status}`);
      if (mine !== round) return;
      complain(wrong, "");
      shown = tasks;
      setHidden(more, next === null || wanted >= MAX_TASKS);
    } catch (error) {
      if (mine === round) complain(wrong, sentenceOf(error));
      return;
    }
    if (typeof id === "string") open = id;
    paint();
  }

  function paint() {
    show(shown);
    none.show(shown.length > 0 ? "" : "work");
  }

  function toggle(id) {
    open = open === id ? null : id;
    paint();
  }

  function earlier() {
    wanted = Math.min(MAX_TASKS, wanted + PAGE);
    return refresh();
  }

  setHidden(more, true);
  return {
    node,
    refresh,
    tick() {
      if (performance.now() - asked > REFRESH_MS) refresh();
      for (const row of show.entries()) row.tick();
    },
  };
}
