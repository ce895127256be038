// The rules by which clients are sent to nodes, and the reason for which one
// client would be sent to one node. Loaded when the nodes are first looked at.

import { call, CallFailed } from "../api.js";
import { act, ask, notify, openDialog, sentenceOf } from "../dialog.js";
import { el, foreign, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { count } from "../format.js";
import { addTexts, half, t } from "../i18n.js";
import { button, complain } from "../parts.js";
import texts from "../texts/rules.js";
import { nameOf } from "./health.js";

addTexts(texts);

const PATH = "/api/v1/fleet/rules";
const NAMED = ["sites", "nodes", "labels"];
const listOf = (text) => text.split(/[\s,，;；]+/).map((entry) => entry.trim()).filter(Boolean);
// Names may have spaces, subnets have none.
const namesOf = (text) => text.split(/[,，;；\n]+/).map((entry) => entry.trim()).filter(Boolean);

export function rulesCard(live) {
  const list = el("ol.rules", { id: "rules", "aria-label": t("rules.name") });
  const none = el("p.soft", t("rules.none"));
  const overflow = el("p.soft.small");
  const add = button("", "add", t("rules.add"), { "data-action": "add-rule", onclick: () => edit(null) });
  const limit = button(".quiet", "config", t("rules.overflow.edit"), { "data-action": "overflow", onclick: editOverflow });
  const why = choiceForm(live);
  const node = el("section.card", { "aria-labelledby": "rules-title" },
    el("h2", { id: "rules-title" }, t("rules.name")),
    el("p.soft", t("rules.what")),
    list, none, overflow,
    el("div.buttons", add, limit),
    why.node);
  let config = null;
  let shown = null;

  function ruleRow(rule) {
    const to = NAMED.filter((kind) => rule[kind].length > 0)
      .map((kind) => t(`rules.to.${kind}`, { names: rule[kind].join(t("board.comma")) }));
    const change = button(".quiet", "config", t("rules.edit"), { "data-action": "edit-rule", onclick: () => edit(rule) });
    const remove = button(".quiet.danger", "remove", t("rules.remove"), { "data-action": "remove-rule", onclick: () => askToRemove(rule, remove) });
    return el("li.rule",
      el("div", foreign(rule.clients.join(", "), ".code"), " → ", foreign(to.join("; "))),
      el("p.soft.small", t(rule.only ? "rules.only" : "rules.first")),
      el("div.buttons", change, remove));
  }

  const save = (next) => call("PUT", PATH, next);

  // A rule is known by its content: others may change the list meanwhile.
  async function replace(rule, ...by) {
    const place = config.rules.findIndex((other) => JSON.stringify(other) === JSON.stringify(rule));
    if (place < 0) throw new CallFailed(409, t("rules.gone"));
    return save({ ...config, rules: config.rules.flatMap((other, n) => (n === place ? by : [other])) });
  }

  async function askToRemove(rule, remove) {
    const name = rule.clients.join(", ");
    const yes = await ask({ title: t("rules.remove.title"), name, lines: [t("rules.remove.what")], yes: t("rules.remove"), dangerous: true });
    if (!yes) return;
    await act(remove, () => replace(rule), t("rules.removed"));
  }

  function edit(rule) {
    const none = { clients: [], sites: [], nodes: [], labels: [], only: false };
    ruleDialog(rule ?? none, rule === null, (changed) =>
      rule === null ? save({ ...config, rules: [...config.rules, changed] }) : replace(rule, changed));
  }

  function editOverflow() {
    const input = el("input", { id: "rule-overflow", type: "number", min: 1, max: 100, step: 1, required: true, "aria-describedby": "rule-overflow-help" });
    input.value = config.overflow;
    formDialog(t("rules.overflow.edit"), [field("overflow", input)], () => save({ ...config, overflow: Number(input.value) }));
    input.focus();
  }

  return {
    node,
    update() {
      why.update();
      config = live.status.routing;
      const now = JSON.stringify(config);
      if (now === shown) return;
      shown = now;
      setChildren(list, config.rules.map(ruleRow));
      setHidden(none, config.rules.length > 0);
      setText(overflow, t("rules.overflow", { percent: count(config.overflow) }));
    },
  };
}

const field = (name, input) => el("div.field",
  el("label", { for: `rule-${name}` }, t(`rules.field.${name}`)), input,
  el("p.soft.small", { id: `rule-${name}-help` }, t(`rules.field.${name}.help`)));

function ruleDialog(rule, isNew, save) {
  const inputs = Object.fromEntries(["clients", ...NAMED].map((name) => {
    const input = el("input", { id: `rule-${name}`, name, autocomplete: "off", "aria-describedby": `rule-${name}-help` });
    input.value = rule[name].join(", ");
    return [name, input];
  }));
  const only = el("input", { id: "rule-only", name: "only", type: "checkbox", "aria-describedby": "rule-only-help" });
  only.checked = rule.only;
  const onlyField = el("div.field",
    el("label.check", { for: "rule-only" }, only, " ", t("rules.field.only")),
    el("p.soft.small", { id: "rule-only-help" }, t("rules.field.only.help")));
  const fields = [...Object.entries(inputs).map(([name, input]) => field(name, input)), onlyField];
  formDialog(t(isNew ? "rules.add" : "rules.edit.title"), fields, () => save({
    clients: listOf(inputs.clients.value),
    sites: namesOf(inputs.sites.value), nodes: namesOf(inputs.nodes.value), labels: namesOf(inputs.labels.value),
    only: only.checked,
  }));
  inputs.clients.focus();
}

function formDialog(title, fields, save) {
  const wrong = el("p.wrong", { id: "rule-wrong", role: "alert" });
  const cancel = el("button.button", { type: "button", "data-answer": "no" }, t("cancel"));
  const agree = el("button.button.primary", { type: "submit", "data-answer": "yes" }, t("rules.save"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit }, ...fields, wrong,
    el("div.dialog-buttons", cancel, agree));
  const dialog = openDialog(title, form);
  cancel.onclick = () => dialog.close();

  async function submit(event) {
    event.preventDefault();
    if (agree.getAttribute("aria-disabled") === "true") return;
    setAttribute(agree, "aria-disabled", "true");
    try {
      await save();
      dialog.close();
      notify(t("rules.saved"));
    } catch (error) {
      complain(wrong, sentenceOf(error));
    } finally {
      setAttribute(agree, "aria-disabled", null);
    }
  }
}

// "Why that node?": an address and a meeting, and what the main server would do.
function choiceForm(live) {
  const client = el("input", { id: "choice-client", name: "client", autocomplete: "off", inputmode: "decimal", placeholder: "10.3.0.7" });
  const meeting = el("select", { id: "choice-meeting", name: "meeting" });
  const ask = button("", "show", t("choice.ask"), { type: "submit", "data-action": "explain" });
  const wrong = el("p.wrong", { role: "alert" });
  const found = el("div", { id: "choice", "aria-live": "polite" });
  // What was found is of the address and the meeting that were asked about.
  const forget = () => setChildren(found, []);
  client.oninput = forget;
  meeting.onchange = forget;
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    el("div.field", el("label", { for: "choice-client" }, t("choice.client")), client),
    el("div.field", el("label", { for: "choice-meeting" }, t("choice.meeting")), meeting),
    el("div.buttons", ask), wrong);
  const node = el("details.choice", el("summary", t("choice.name")), form, found);
  let shown = null;

  async function submit(event) {
    event.preventDefault();
    setText(wrong, "");
    const path = `/api/v1/meetings/${encodeURIComponent(meeting.value)}/explain?client=${encodeURIComponent(client.value.trim())}`;
    try {
      setChildren(found, explained(await call("GET", path), (id) => nameOf(live.status, id)));
    } catch (error) {
      forget();
      complain(wrong, sentenceOf(error));
    }
  }

  return {
    node,
    update() {
      const running = live.status.meetings.filter((each) => each.status === "进行中");
      const key = running.map(({ id, title }) => `${id} ${title}`).join("\n");
      if (key === shown) return;
      shown = key;
      const kept = meeting.value;
      setChildren(meeting, running.map(({ id, title }) => el("option", { value: id }, title || id)));
      if (running.some(({ id }) => id === kept)) meeting.value = kept;
      setHidden(form, running.length === 0);
      setChildren(found, running.length === 0 ? [el("p.soft", t("choice.none"))] : []);
    },
  };
}

function explained({ reason, rule, tiers, excluded, excluded_count: out }, name) {
  const tier = ({ busy, named_by_rule: named, priority, count: number, nodes }) => [
    el("h3", t(rule === null ? "choice.tier.all" : named ? "choice.tier" : "choice.tier.others", { priority, count: count(number) }),
      busy ? t("choice.busy") : ""),
    el("ul.choice-nodes", ...nodes.map((each) => el("li",
      foreign(name(each.node_id)), " ", foreign(each.address, ".code.soft"), " ",
      el("span.soft.small", t("choice.figures", { ...each, downloads: count(each.downloads + each.redirects), load: each.load_percent }))))),
  ];
  return [
    el("p.choice-reason", half(reason)),
    ...tiers.flatMap(tier),
    ...(out === 0 ? [] : [
      el("h3", t("choice.excluded", { count: count(out) })),
      el("ul.choice-nodes", ...[...new Set(excluded.map(({ reason: why }) => why))].map((why) =>
        el("li", el("span.soft.small", t(`choice.excluded.${why}`), t("board.colon")),
          foreign(excluded.filter((node) => node.reason === why).map(({ node_id: id }) => name(id)).join(t("board.comma")))))),
      ...(out > excluded.length ? [el("p.soft.small", t("relay.rest", { n: out - excluded.length }))] : []),
    ]),
  ];
}
