// Virtual nodes: names to which messages go as to nodes. Made, changed and deleted here.
// Loaded when the nodes are first looked at.

import { call, get } from "../api.js";
import { act, ask, notify, openDialog, sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { count, dateTime } from "../format.js";
import { addTexts, t } from "../i18n.js";
import { button, card, complain } from "../parts.js";
import texts from "../texts/virtual.js";
import { listed } from "../texts/shared.js";

const PATH = "/api/v1/virtual-nodes";
const REFRESH_MS = 10_000;
const PAGE = 50;
// In one answer.
const MAX = 10_000;

addTexts(texts);

const pathOf = (id) => `${PATH}/${encodeURIComponent(id)}`;
const labelsOf = (text) => text.split(/[,，、\n]/).map((label) => label.trim()).filter(Boolean);

export function virtualCard() {
  const list = el("ul.groups-list", { id: "virtual", "aria-label": t("virtual.name") });
  const show = keyedList(list, ({ id }) => id, () => virtualRow(refresh));
  const none = el("p.soft", { hidden: true }, t("virtual.none"));
  const wrong = el("p.wrong", { role: "alert" });
  const rest = el("span.small.soft");
  const more = button(".quiet", "show", t("virtual.more"), { "data-action": "more-virtual", hidden: true, onclick: () => ((wanted += PAGE), refresh()) });
  const add = button("", "add", t("virtual.add"), { "data-action": "add-virtual", onclick: () => virtualDialog(null, refresh) });
  const node = card("virtual-title", t("virtual.name"), el("p.soft", t("virtual.what")), list, none, wrong, el("div.buttons", add, more, rest));
  let wanted = PAGE;
  let asked = -Infinity;

  async function refresh() {
    asked = performance.now();
    try {
      const { nodes, count: all } = await get(`${PATH}?limit=${Math.min(wanted, MAX)}`);
      complain(wrong, "");
      show(nodes);
      setHidden(none, all > 0);
      setHidden(more, nodes.length === all);
      setText(rest, nodes.length === all ? "" : t("virtual.rest", { n: count(all - nodes.length) }));
    } catch (error) {
      complain(wrong, sentenceOf(error));
    }
  }

  return {
    node,
    update(event) {
      if (event === "shown" || performance.now() - asked > REFRESH_MS) refresh();
    },
  };
}

function virtualRow(refresh) {
  let one = null;
  const name = foreign("", ".message-body");
  const about = el("p.small.soft");
  const change = button(".quiet", "config", t("virtual.edit"), { "data-action": "edit-virtual", onclick: () => virtualDialog(one, refresh) });
  const remove = button(".quiet.danger", "remove", t("virtual.remove"), { "data-action": "remove-virtual", onclick: askToRemove });

  async function askToRemove() {
    const { id } = one;
    const yes = await ask({ title: t("virtual.remove.title"), name: id, lines: [t("virtual.remove.what")], yes: t("virtual.remove"), dangerous: true });
    if (yes && (await act(remove, () => call("DELETE", pathOf(id)), t("virtual.removed")))) refresh();
  }

  const node = el("li.group", name, about, el("div.task-buttons", change, remove));
  return {
    node,
    update(fresh) {
      one = fresh;
      const { id, site, labels, created_at: at } = fresh;
      setAttribute(node, "data-virtual", id);
      setText(name, id);
      setText(about, listed(site && t("virtual.of.site", { site }), labels?.length > 0 && t("virtual.of.labels", { labels: labels.join(", ") }), t("virtual.created", { time: dateTime(at) })));
      for (const control of [change, remove]) setAttribute(control, "aria-label", `${control.lastChild.textContent}: ${id}`);
    },
  };
}

// `one`: null for a new one.
function virtualDialog(one, saved) {
  const wrong = el("p.wrong", { id: "virtual-id-wrong", role: "alert" });
  const failed = el("p.wrong", { role: "alert" });
  const input = (name) => el("input", { id: `virtual-${name}`, autocomplete: "off", spellcheck: "false", maxlength: 200, "aria-describedby": `virtual-${name}-help` });
  const field = (name, control, more = null) => el("div.field", el("label", { for: control.id }, t(`virtual.${name}.label`)), control,
    el("p.soft.small", { id: `virtual-${name}-help` }, t(`virtual.${name}.help`)), more);
  const [id, site, labels] = ["id", "site", "labels"].map(input);
  setAttribute(id, "aria-describedby", "virtual-id-help virtual-id-wrong");
  const cancel = el("button.button", { "data-answer": "no" }, t("cancel"));
  const agree = el("button.button.primary", { type: "submit", "data-answer": "yes" }, t("virtual.save"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    one === null ? field("id", id, wrong) : el("p.dialog-name", foreign(one.id)),
    field("site", site), field("labels", labels), failed,
    el("div.dialog-buttons", cancel, agree));
  const dialog = openDialog(t(one === null ? "virtual.add" : "virtual.edit.title"), form);
  cancel.onclick = () => dialog.close();
  site.value = one?.site ?? "";
  labels.value = (one?.labels ?? []).join(", ");
  (one === null ? id : site).focus();

  function say(words) {
    complain(wrong, words);
    setAttribute(id, "aria-invalid", words ? "true" : null);
    if (words) id.focus();
  }

  async function submit(event) {
    event.preventDefault();
    if (agree.getAttribute("aria-disabled") === "true") return;
    complain(failed, "");
    const name = one?.id ?? id.value.trim();
    if (name === "") return say(t("virtual.wrong.id"));
    setAttribute(agree, "aria-disabled", "true");
    try {
      // A new one must not take the place of another.
      if (one === null && (await get(`${PATH}?limit=${MAX}`)).nodes.some(({ id: other }) => other === name)) {
        return say(t("virtual.wrong.taken"));
      }
      say("");
      await call("PUT", pathOf(name), { site: site.value.trim(), labels: labelsOf(labels.value) });
      dialog.close();
      notify(t("virtual.saved"));
      saved();
    } catch (error) {
      if (one === null && error.status === 409) say(sentenceOf(error));
      else complain(failed, sentenceOf(error));
    } finally {
      setAttribute(agree, "aria-disabled", null);
    }
  }
}
