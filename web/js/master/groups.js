// Groups of nodes: made, changed and deleted here, with the nodes that each has now. Loaded
// when the nodes are first looked at.

import { call, get } from "../api.js";
import { act, ask, notify, openDialog, sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { count } from "../format.js";
import { addTexts, t } from "../i18n.js";
import { button, card, complain } from "../parts.js";
import texts from "../texts/groups.js";
import { listed } from "../texts/shared.js";
import { destinationField } from "./destinations.js";
import { nameOf } from "./health.js";

const PATH = "/api/v1/groups";
const REFRESH_MS = 5000;
const MAX_NAME_BYTES = 200;
// Of a group's nodes, and of the names that one is made of.
const MAX_SHOWN = 200;
const MAX_NAMED = 8;
// Which field a refusal of the main server is about, by its words.
const ABOUT = [
  ["name", /group's name|groups already/],
  ["to", /no such node|group is empty|at most \d+ of a kind/],
  ["labels", /malformed|missing at byte|label|parenthes|quotation|expression/],
];

addTexts(texts);

const pathOf = (name) => `${PATH}/${encodeURIComponent(name)}`;

export function groupsCard(live) {
  const list = el("ul.groups-list", { id: "groups", "aria-label": t("groups.name") });
  const show = keyedList(list, ({ name }) => name, () => groupRow(live, refresh, edit));
  const none = el("p.soft", { hidden: true }, t("groups.none"));
  const wrong = el("p.wrong", { role: "alert" });
  const add = button("", "add", t("groups.add"), { "data-action": "add-group", onclick: () => edit(null) });
  const node = card("groups-title", t("groups.name"), el("p.soft", t("groups.what")), list, none, wrong, el("div.buttons", add));
  let asked = -Infinity;

  async function refresh() {
    asked = performance.now();
    try {
      const { groups } = await get(PATH);
      complain(wrong, "");
      show(groups);
      setHidden(none, groups.length > 0);
    } catch (error) {
      complain(wrong, sentenceOf(error));
    }
  }

  function edit(group) {
    groupDialog(live, group, refresh);
  }

  return {
    node,
    update(event) {
      if (event === "shown" || performance.now() - asked > REFRESH_MS) refresh();
    },
  };
}

function definition({ nodes, sites, labels }, live) {
  const some = (names) => [...names.slice(0, MAX_NAMED), ...(names.length > MAX_NAMED ? ["…"] : [])].join(t("board.comma"));
  return listed(
    nodes.length > 0 && t("groups.of.nodes", { names: some(nodes.map((id) => nameOf(live.status, id))) }),
    sites.length > 0 && t("groups.of.sites", { names: some(sites) }),
    labels && t("groups.of.labels", { names: labels }),
  );
}

function groupRow(live, refresh, edit) {
  let group = null;
  const name = foreign("", ".message-body");
  const size = el("span.small");
  const about = foreign("", ".small.soft");
  const members = el("ul.group-members", { "aria-label": t("groups.members"), hidden: true });
  const wrong = el("p.wrong", { role: "alert" });
  const opener = button(".quiet.disclose", "link", t("groups.members"), { "data-action": "members", "aria-expanded": "false", onclick: toggle });
  const change = button(".quiet", "config", t("groups.edit"), { "data-action": "edit-group", onclick: () => edit(group) });
  const remove = button(".quiet.danger", "remove", t("groups.remove"), { "data-action": "remove-group", onclick: askToRemove });
  const node = el("li.group", el("div.board-name", name, size), about, el("div.task-buttons", opener, change, remove), members, wrong);

  function toggle() {
    setHidden(members, !members.hidden);
    setAttribute(opener, "aria-expanded", String(!members.hidden));
    if (!members.hidden) showMembers();
  }

  async function showMembers() {
    try {
      const { members: ids } = await get(pathOf(group.name));
      complain(wrong, "");
      const rest = ids.length - MAX_SHOWN;
      setChildren(members, [
        ...ids.slice(0, MAX_SHOWN).map((id) => el("li", foreign(nameOf(live.status, id)))),
        rest > 0 && el("li.soft", t("groups.rest", { n: count(rest) })),
        ids.length === 0 && el("li.soft", t("groups.empty")),
      ]);
    } catch (error) {
      complain(wrong, sentenceOf(error));
    }
  }

  async function askToRemove() {
    const { name: id } = group;
    const yes = await ask({ title: t("groups.remove.title"), name: id, lines: [t("groups.remove.what")], yes: t("groups.remove"), dangerous: true });
    if (yes && (await act(remove, () => call("DELETE", pathOf(id)), t("groups.removed")))) refresh();
  }

  return {
    node,
    update(fresh) {
      group = fresh;
      setAttribute(node, "data-group", group.name);
      setText(name, group.name);
      setText(size, group.count === 0 ? t("groups.empty") : t("groups.now", { n: group.count }));
      setText(about, definition(group, live));
      for (const control of [opener, change, remove]) setAttribute(control, "aria-label", `${control.lastChild.textContent}: ${group.name}`);
      if (!members.hidden) showMembers();
    },
  };
}

// `group`: null for a new one.
function groupDialog(live, group, saved) {
  const complaint = (name) => el("p.wrong", { id: `group-${name}-wrong`, role: "alert" });
  const wrong = { name: complaint("name"), labels: complaint("labels") };
  const failed = el("p.wrong", { role: "alert" });
  const input = (name, attributes) => el("input", { id: `group-${name}`, autocomplete: "off", spellcheck: "false", "aria-describedby": `group-${name}-help group-${name}-wrong`, ...attributes });
  const field = (name, control) => el("div.field", el("label", { for: control.id }, t(`groups.${name}.label`)), control,
    el("p.soft.small", { id: `group-${name}-help` }, t(`groups.${name}.help`)), wrong[name]);
  const name = input("name", { maxlength: MAX_NAME_BYTES });
  const labels = input("labels", {});
  const to = destinationField(live, { id: "group-to", label: t("groups.to.label"), kinds: ["sites", "nodes", "virtual"] });
  const cancel = el("button.button", { "data-answer": "no" }, t("cancel"));
  const agree = el("button.button.primary", { type: "submit", "data-answer": "yes" }, t("groups.save"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    group === null ? field("name", name) : el("p.dialog-name", foreign(group.name)),
    el("p.soft.small", t("groups.any.help")), to.node, field("labels", labels), failed,
    el("div.dialog-buttons", cancel, agree));
  const dialog = openDialog(t(group === null ? "groups.add" : "groups.edit.title"), form);
  cancel.onclick = () => dialog.close();
  if (group !== null) {
    to.fill(group);
    labels.value = group.labels ?? "";
  }
  to.update("shown");
  if (group === null) name.focus();
  else to.focus();

  function say(about, words) {
    if (about === "to") return to.say(words);
    complain(wrong[about], words);
    setAttribute(about === "name" ? name : labels, "aria-invalid", words ? "true" : null);
  }

  function read() {
    const members = to.value();
    const text = labels.value.trim();
    const asked = name.value.trim();
    const isNamed = group !== null || (asked !== "" && new TextEncoder().encode(asked).length <= MAX_NAME_BYTES);
    say("name", isNamed ? "" : t("groups.wrong.name"));
    say("to", members === null && text === "" ? t("groups.wrong.nothing") : "");
    say("labels", "");
    if (!isNamed) name.focus();
    if (!isNamed || (members === null && text === "")) return null;
    return { id: group?.name ?? asked, body: { nodes: [], sites: [], ...members, labels: text || null } };
  }

  async function submit(event) {
    event.preventDefault();
    if (agree.getAttribute("aria-disabled") === "true") return;
    complain(failed, "");
    const wanted = read();
    if (wanted === null) return;
    setAttribute(agree, "aria-disabled", "true");
    try {
      // A new one must not take the place of another.
      if (group === null && (await get(PATH)).groups.some(({ name: other }) => other === wanted.id)) {
        return say("name", t("groups.wrong.taken"));
      }
      await call("PUT", pathOf(wanted.id), wanted.body);
      dialog.close();
      notify(t("groups.saved"));
      saved();
    } catch (error) {
      const [about] = ABOUT.find(([, pattern]) => error.status === 400 && pattern.test(error.detail)) ?? [];
      if (about && !(about === "name" && group !== null)) say(about, sentenceOf(error));
      else complain(failed, sentenceOf(error));
    } finally {
      setAttribute(agree, "aria-disabled", null);
    }
  }
}
