// The form that sends a message to nodes.

import { get, post } from "../api.js";
import { notify, sentenceOf } from "../dialog.js";
import { el, foreign, setAttribute, setChildren } from "../dom.js";
import { t } from "../i18n.js";
import { icon } from "../icons.js";
import { button, card, complain } from "../parts.js";
import { allNodes, siteOf } from "./health.js";

export const PATH = "/api/v1/casts";
const KINDS = ["groups", "sites", "labels", "nodes"];
// Groups are changed by API, and rarely.
const GROUPS_MS = 30_000;
const LIFETIMES = { hour: 3600, day: 86400, week: 7 * 86400 };
// Made once: there may be ten thousand names.
const COLLATOR = new Intl.Collator(undefined, { numeric: true });
const PRIORITIES = ["low", "normal", "high", "urgent"];
// The same message is not sent twice, however often its answer was lost.
const freshKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function composer(live, sent) {
  const field = (name, input, wrong = null) => el("div.field", el("label", { for: input.id }, t(`compose.${name}`)), input, wrong);
  const wrong = { text: el("p.wrong", { id: "compose-text-wrong", role: "alert" }), to: el("p.wrong", { id: "compose-to-wrong", role: "alert" }) };
  const failed = el("p.wrong", { id: "compose-wrong", role: "alert" });
  const text = el("textarea", { id: "compose-text", rows: 2, "aria-describedby": "compose-text-wrong" });
  const pick = el("select", { id: "compose-to", "aria-describedby": "compose-to-wrong" });
  const add = button("", "add", t("compose.add"), { "data-action": "add", onclick: choose });
  const chips = el("div.chips");
  const topic = el("input", { id: "compose-topic", autocomplete: "off", maxlength: 200, "aria-describedby": "compose-topic-help" });
  topic.value = "notice";
  const expires = chooser("expires", Object.keys(LIFETIMES), "day");
  const priority = chooser("priority", PRIORITIES, "normal");
  const send = el("button.button.primary", { type: "submit" }, t("compose.send"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    field("text", text, wrong.text),
    el("div.field", el("label", { for: "compose-to" }, t("compose.to")), chips, el("div.with-unit", pick, add), wrong.to),
    el("details", el("summary", t("compose.more")),
      el("div.field", el("label", { for: "compose-topic" }, t("compose.topic")), topic, el("p.soft.small", { id: "compose-topic-help" }, t("compose.topic.help"))),
      field("expires", expires), field("priority", priority)),
    failed,
    el("div.buttons", send));
  const node = card("compose-title", t("compose.title"), el("p.soft", t("compose.what")), form);
  let to = []; // { kind, name }; kind "all" alone
  let read = {}; // the lists that were read last
  let groups = [];
  let asked = -Infinity;
  let offered = "";
  let key = freshKey();

  function chooser(name, choices, chosen) {
    const select = el("select", { id: `compose-${name}` }, choices.map((choice) => el("option", { value: choice }, t(`compose.${choice}`))));
    select.value = chosen;
    return select;
  }

  async function readGroups() {
    asked = performance.now();
    const answer = await get("/api/v1/groups").catch(() => null);
    if (answer === null) return;
    groups = answer.groups.map(({ name }) => name);
    read = {};
  }

  function namesOf(kind) {
    const { fleet } = live.status;
    if (kind === "groups") return groups.map((name) => ({ name, shown: name }));
    if (kind === "nodes") return fleet.map(({ id, name }) => ({ name: id, shown: name && name !== id ? `${name} (${id})` : id }));
    const names = kind === "sites" ? allNodes(live.status).map(siteOf) : fleet.flatMap(({ labels }) => labels);
    return [...new Set(names)].filter(Boolean).map((name) => ({ name, shown: name }));
  }

  // Only where it differs: a list that is open must not be taken away.
  function offer() {
    const { fleet, nodes } = live.status;
    if (read.fleet === fleet && read.nodes === nodes) return;
    read = { fleet, nodes };
    const byName = (a, b) => COLLATOR.compare(a.shown, b.shown);
    const groups = KINDS.map((kind) => [kind, namesOf(kind).sort(byName)]).filter(([, names]) => names.length > 0);
    const now = JSON.stringify(groups);
    if (now === offered) return;
    offered = now;
    setChildren(pick, [
      el("option", { value: "" }, t("compose.choose")),
      el("option", { value: "all" }, t("compose.all")),
      ...groups.map(([kind, names]) => el("optgroup", { label: t(`compose.${kind}`) },
        names.map(({ name, shown }) => el("option", { value: JSON.stringify({ kind, name }) }, shown)))),
    ]);
  }

  // Not when the list changes: with arrow keys, a closed one changes at each press.
  function choose() {
    if (pick.value === "") return pick.focus();
    const chosen = pick.value === "all" ? { kind: "all", name: t("compose.all") } : JSON.parse(pick.value);
    const others = to.filter(({ kind, name }) => kind !== "all" && !(kind === chosen.kind && name === chosen.name));
    to = chosen.kind === "all" ? [chosen] : [...others, chosen];
    pick.value = "";
    say(pick, wrong.to, "");
    showChosen();
  }

  function showChosen() {
    setChildren(chips, to.map((chosen) => {
      const label = chosen.kind === "all" ? chosen.name : `${t(`compose.${chosen.kind}`)}: ${chosen.name}`;
      const click = () => {
        to = to.filter((other) => other !== chosen);
        showChosen();
        pick.focus();
      };
      return el("button.chip", { "data-to": chosen.name, "aria-label": t("compose.remove", { name: label }), onclick: click }, foreign(label), " ", icon("close"));
    }));
  }

  function say(input, place, words) {
    complain(place, words);
    setAttribute(input, "aria-invalid", words ? "true" : null);
  }

  async function submit(event) {
    event.preventDefault();
    if (send.getAttribute("aria-disabled") === "true") return;
    const body = text.value.trim();
    // Who chose and did not add means it.
    if (pick.value !== "") choose();
    say(text, wrong.text, body === "" ? t("compose.wrong.text") : "");
    say(pick, wrong.to, to.length === 0 ? t("compose.wrong.to") : "");
    if (body === "" || to.length === 0) return (body === "" ? text : pick).focus();
    const named = (kind) => to.filter((chosen) => chosen.kind === kind).map(({ name }) => name);
    const lists = KINDS.map((kind) => [kind, named(kind)]).filter(([, names]) => names.length > 0);
    const cast = {
      topic: topic.value.trim(), body, priority: priority.value, expires_in_s: LIFETIMES[expires.value], key,
      to: to[0].kind === "all" ? { all: true } : Object.fromEntries(lists),
    };
    setAttribute(send, "aria-disabled", "true");
    complain(failed, "");
    try {
      await post(PATH, cast);
      notify(t("compose.sent"));
      // Somebody may have gone on typing.
      if (text.value.trim() === body) text.value = "";
      key = freshKey();
      sent();
    } catch (error) {
      complain(failed, sentenceOf(error));
      // Another text with the key of one that was saved after all.
      if (error.status === 409) key = freshKey();
    } finally {
      setAttribute(send, "aria-disabled", null);
    }
  }

  return {
    node,
    update() {
      if (performance.now() - asked > GROUPS_MS) readGroups();
      if (live.status !== null && document.activeElement !== pick) offer();
    },
  };
}
