// A setting in the form: its control, what it means and may be, and what is to
// be said of it now.

import { el, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { same } from "../drafts.js";
import { bytes, percent } from "../format.js";
import { icon } from "../icons.js";
import { pick, t } from "../i18n.js";
import { button, complain } from "../parts.js";
import { editor, HIDDEN_SECRET } from "./editors.js";

function said(setting, value) {
  if (value === null || value === "") return t("config.unset");
  if (setting.kind === "secret") return t(value === HIDDEN_SECRET ? "secret.is" : "secret.new");
  if (typeof value === "boolean") return t(value ? "on" : "off");
  if (Array.isArray(value)) return value.join(", ") || t("config.unset");
  if (typeof value !== "number") return String(value);
  if (setting.unit === "bytes") return bytes(value);
  if (setting.unit === "share") return `${value} (${percent(value)})`;
  return setting.unit === "s" ? `${value} ${t("unit.s")}` : String(value);
}

// Switches and choices show by themselves what is allowed; lists are typed
// otherwise here (one a line) than the node says it.
function range(setting) {
  const value = said(setting, setting.default);
  if (["bool", "choice", "networks", "main_servers", "schedule"].includes(setting.kind)) return t("config.default", { value });
  return t("config.range", { allowed: pick(setting.allowed), value });
}

function fixed({ environment }) {
  return environment ? t("config.environment", { variable: environment }) : t("config.fixed");
}

// `drafts`: see there. `changed(key)`: after every edit.
export function settingField(setting, drafts, changed) {
  const { key } = setting;
  const id = `setting-${key.replace(/\./g, "-")}`;
  const control = editor(setting, () => {
    drafts.edit(key, control.read());
    changed(key);
  });
  const { input } = control;
  const meaning = el("p.soft.small", { id: `${id}-meaning` }, pick(setting.meaning));
  const wrong = el("p.wrong", { id: `${id}-wrong` });
  const plain = el("output.soft.small", { for: id });
  const caution = setting.caution &&
    el("p.hint", { "data-tone": "warning", hidden: true, id: `${id}-caution` }, icon("warning"), el("span", pick(setting.caution)));
  const hint = el("p.hint.suggestion", { "data-tone": "busy", hidden: true }, icon("nodes"), el("span"));
  const elsewhere = el("div.hint.elsewhere", { "data-tone": "busy", hidden: true });
  const reset = button(".quiet.reset", "reset", t("config.reset"), {
    "data-reset": key, "aria-label": `${t("config.reset")}: ${pick(setting.title)}`,
  });
  const mark = el("span.edited", { hidden: true }, t("config.edited"));

  input.id = id;
  setAttribute(input, "data-input", key);
  setAttribute(input, "aria-describedby", [meaning, wrong, caution].filter(Boolean).map((node) => node.id).join(" "));
  reset.onclick = () => {
    drafts.edit(key, setting.default);
    changed(key);
    input.focus();
  };

  function showElsewhere() {
    const differs = drafts.changedElsewhere(key);
    const text = differs ? t("config.elsewhere", { value: said(setting, drafts.saved(key)) }) : "";
    setHidden(elsewhere, !differs);
    if (elsewhere.dataset.text === text) return;
    elsewhere.dataset.text = text;
    const choose = (name, take) => el("button.button.quiet", {
      "data-choose": name,
      onclick: () => (take(), changed(key), input.focus()),
    }, t(`config.${name}`));
    setChildren(elsewhere, [
      el("span", text),
      choose("theirs", () => drafts.drop(key)),
      choose("mine", () => drafts.keepMine(key)),
    ]);
  }

  return {
    node: el("div.setting", { "data-setting": key },
      el("div",
        el("p.setting-title", el("label", { for: id }, pick(setting.title)), mark),
        meaning,
        el("code.soft", key)),
      el("div",
        el("div.setting-control", control.node, plain),
        wrong,
        caution,
        hint,
        elsewhere,
        el("p.setting-range.soft.small",
          setting.fixed ? fixed(setting) : el("span", range(setting)),
          setting.fixed ? null : reset))),

    // What is typed is left alone while it says what the draft says.
    update(problem) {
      const value = drafts.value(key);
      control.saved?.(drafts.saved(key));
      if (!same(control.read(), value)) control.write(value);
      const edited = drafts.edited(key);
      setText(plain, control.said());
      setHidden(mark, !edited);
      setHidden(reset, same(value, setting.default));
      if (caution) setHidden(caution, !edited);
      setAttribute(input, "aria-invalid", problem ? "true" : null);
      // Else it may stand behind the bar that saves.
      const news = complain(wrong, problem ? pick(problem) : "");
      if (news && document.activeElement === input) wrong.scrollIntoView({ block: "nearest" });
      showElsewhere();
    },
    // What the node's state makes of this setting; "" for nothing.
    suggest(text) {
      setHidden(hint, text === "");
      setText(hint.lastChild, text);
    },
    focus() {
      const folded = input.closest("details");
      if (folded) folded.open = true;
      input.scrollIntoView({ block: "center" });
      input.focus({ preventScroll: true });
    },
  };
}
