// The choice of the nodes that something is sent to: all, or groups, sites, labels and nodes
// by their names. Messages, files and groups have it in their forms; files can't go to virtual
// nodes, which are nodes by another name to the API.

import { get } from "../api.js";
import { el, foreign, setAttribute, setChildren } from "../dom.js";
import { addTexts, t } from "../i18n.js";
import { icon } from "../icons.js";
import { button, complain } from "../parts.js";
import texts from "../texts/destinations.js";
import { allNodes, nameOf, siteOf } from "./health.js";

const KINDS = ["groups", "sites", "labels", "nodes"];
export const WITH_VIRTUAL = [...KINDS, "virtual"];
// Changed elsewhere, and rarely.
const GROUPS_MS = 30_000;
// Nobody looks through longer lists: the others get messages by groups, sites and labels.
const MAX_VIRTUAL = 1000;
// In a sentence; the others are counted.
const MAX_NAMED = 8;
// Made once: there may be ten thousand names.
const COLLATOR = new Intl.Collator(undefined, { numeric: true });

addTexts(texts);

// The same in a sentence.
export function destinationNames(to, status) {
  if (to.all) return t("to.everybody");
  const shown = (kind) => (name) => (kind === "nodes" && status !== null ? nameOf(status, name) : name);
  const all = KINDS.flatMap((kind) => (to[kind] ?? []).map(shown(kind)));
  const names = all.slice(0, MAX_NAMED).join(t("board.comma"));
  return all.length > MAX_NAMED ? t("to.more", { names, n: all.length, rest: all.length - MAX_NAMED }) : names;
}

// The API's list for a kind.
const fieldOf = (kind) => (kind === "virtual" ? "nodes" : kind);

// `id`: of the control, and the beginning of others. `kinds` without "groups" are for a
// group itself, which can't be "all" nodes.
export function destinationField(live, { id, label, kinds = KINDS }) {
  const hasGroups = kinds.includes("groups");
  const hasVirtual = kinds.includes("virtual");
  const fields = [...new Set(kinds.map(fieldOf))];
  const wrong = el("p.wrong", { id: `${id}-wrong`, role: "alert" });
  const pick = el("select", { id, "aria-describedby": wrong.id });
  const add = button("", "add", t("to.add"), { "data-action": "add", onclick: choose });
  const chips = el("div.chips");
  const node = el("div.field", el("label", { for: id }, label), chips, el("div.with-unit", pick, add), wrong);
  let chosen = []; // { kind, name }; kind "all" alone
  let read = {}; // the lists that were read last
  let groups = [];
  let virtual = []; // { id, site, labels }
  let asked = -Infinity;
  let offered = "";

  async function readLists() {
    asked = performance.now();
    const [named, others] = await Promise.all([
      hasGroups && get("/api/v1/groups").catch(() => null),
      hasVirtual && get(`/api/v1/virtual-nodes?limit=${MAX_VIRTUAL}`).catch(() => null),
    ]);
    if (named) groups = named.groups.map(({ name }) => name);
    if (others) virtual = others.nodes;
    read = {};
  }

  function namesOf(kind) {
    const { fleet } = live.status;
    if (kind === "groups") return groups.map((name) => ({ name, shown: name }));
    if (kind === "virtual") return virtual.map(({ id }) => ({ name: id, shown: id }));
    if (kind === "nodes") return fleet.map(({ id, name }) => ({ name: id, shown: name && name !== id ? `${name} (${id})` : id }));
    const names = kind === "sites"
      ? [...allNodes(live.status).map(siteOf), ...virtual.map(({ site }) => site)]
      : [...fleet, ...virtual].flatMap(({ labels }) => labels ?? []);
    return [...new Set(names)].filter(Boolean).map((name) => ({ name, shown: name }));
  }

  // Only where it differs: a list that is open must not be taken away.
  function offer() {
    const { fleet, nodes } = live.status;
    if (read.fleet === fleet && read.nodes === nodes) return;
    read = { fleet, nodes };
    const byName = (a, b) => COLLATOR.compare(a.shown, b.shown);
    const offers = kinds.map((kind) => [kind, namesOf(kind).sort(byName)]).filter(([, names]) => names.length > 0);
    const now = JSON.stringify(offers);
    if (now === offered) return;
    offered = now;
    setChildren(pick, [
      el("option", { value: "" }, t(hasGroups ? "to.choose" : "to.choose.members")),
      hasGroups && el("option", { value: "all" }, t("to.all")),
      ...offers.map(([kind, names]) => el("optgroup", { label: t(`to.${kind}`) },
        names.map(({ name, shown }) => el("option", { value: JSON.stringify({ kind, name }) }, shown)))),
    ]);
  }

  // Not when the list changes: with arrow keys, a closed one changes at each press.
  function choose() {
    if (pick.value === "") return pick.focus();
    const next = pick.value === "all" ? { kind: "all", name: t("to.all") } : JSON.parse(pick.value);
    const others = chosen.filter(({ kind, name }) => kind !== "all" && !(kind === next.kind && name === next.name));
    chosen = next.kind === "all" ? [next] : [...others, next];
    pick.value = "";
    say("");
    showChosen();
  }

  function showChosen() {
    setChildren(chips, chosen.map((one) => {
      const words = one.kind === "all" ? one.name : `${t(`to.${one.kind}`)}: ${one.name}`;
      const click = () => {
        chosen = chosen.filter((other) => other !== one);
        showChosen();
        pick.focus();
      };
      return el("button.chip", { "data-to": one.name, "aria-label": t("to.remove", { name: words }), onclick: click }, foreign(words), " ", icon("close"));
    }));
  }

  function say(words) {
    complain(wrong, words);
    setAttribute(pick, "aria-invalid", words ? "true" : null);
  }

  return {
    node,
    say,
    focus: () => pick.focus(),
    // As the API wants it; null while nothing is chosen. Who chose and did not add means it.
    value() {
      if (pick.value !== "") choose();
      if (chosen.length === 0) return null;
      if (chosen[0].kind === "all") return { all: true };
      const named = (field) => chosen.filter(({ kind }) => fieldOf(kind) === field).map(({ name }) => name);
      return Object.fromEntries(fields.map((field) => [field, named(field)]).filter(([, names]) => names.length > 0));
    },
    fill(to) {
      chosen = fields.flatMap((kind) => (to[kind] ?? []).map((name) => ({ kind, name })));
      showChosen();
    },
    update(event) {
      if ((hasGroups || hasVirtual) && (event === "shown" || performance.now() - asked > GROUPS_MS)) readLists();
      if (live.status !== null && (offered === "" || document.activeElement !== pick)) offer();
    },
  };
}
