// The dialog in which operators write what they know of a node. It is fetched when it is
// first opened.

import { call } from "../api.js";
import { notify, openDialog, sentenceOf } from "../dialog.js";
import { el, foreign, setAttribute } from "../dom.js";
import { t } from "../i18n.js";
import { complain } from "../parts.js";
import { nodePath } from "./health.js";

const MAX_CHARS = 200;

export function editDialog(known) {
  const field = (name, value, attributes = {}) => {
    const input = el("input", { id: `edit-${name}`, name, autocomplete: "off", "aria-describedby": `edit-${name}-help`, ...attributes });
    input.value = value;
    const help = el("p.soft.small", { id: `edit-${name}-help` }, t(`node.edit.${name}.help`));
    return [input, el("div.field", el("label", { for: `edit-${name}` }, t(`node.edit.${name}`)), input, help)];
  };
  const [name, nameField] = field("name", known.name, { maxlength: MAX_CHARS });
  const [location, locationField] = field("location", known.location, { maxlength: MAX_CHARS });
  const [site, siteField] = field("site", known.site, { maxlength: MAX_CHARS });
  const [labels, labelsField] = field("labels", known.labels.join(", "));
  const number = (name, min) => field(name, known[name], { type: "number", min, max: 100, step: 1, required: true });
  const [weight, weightField] = number("weight", 1);
  const [priority, priorityField] = number("priority", 0);
  const drained = el("input", { id: "edit-drained", name: "drained", type: "checkbox", "aria-describedby": "edit-drained-help" });
  drained.checked = known.drained;
  const drainedField = el("div.field",
    el("label.check", { for: "edit-drained" }, drained, " ", t("node.edit.drained")),
    el("p.soft.small", { id: "edit-drained-help" }, t("node.edit.drained.help")));
  const wrong = el("p.wrong", { id: "edit-wrong", role: "alert" });
  const cancel = el("button.button", { "data-answer": "no" }, t("cancel"));
  const agree = el("button.button.primary", { type: "submit", "data-answer": "yes" }, t("node.edit.yes"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    el("p.dialog-name", foreign(known.id)),
    nameField, locationField, siteField, labelsField, weightField, priorityField, drainedField, wrong,
    el("div.dialog-buttons", cancel, agree));
  const dialog = openDialog(t("node.edit.title"), form);
  cancel.onclick = () => dialog.close();
  name.focus();

  async function submit(event) {
    event.preventDefault();
    if (agree.getAttribute("aria-disabled") === "true") return;
    setAttribute(agree, "aria-disabled", "true");
    const edit = {
      name: name.value, location: location.value, site: site.value,
      labels: labels.value.split(/[,，]/).map((label) => label.trim()).filter(Boolean),
      weight: weight.valueAsNumber, priority: priority.valueAsNumber,
      drained: drained.checked,
    };
    try {
      await call("PATCH", nodePath(known.id), edit);
      dialog.close();
      notify(t("node.edit.done"));
    } catch (error) {
      complain(wrong, sentenceOf(error));
    } finally {
      setAttribute(agree, "aria-disabled", null);
    }
  }
}
