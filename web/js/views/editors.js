// One control for each kind of setting: from a value to what is typed, and
// back. What can't be read as the kind wants goes to the node as it was
// typed: the node alone knows the rules and says what is wrong.
//
// An editor is { node, input, read(), write(value), said() }: `input` has the
// focus and the label, `said` is the value in plainer words, "" for none.

import { el, setHidden, setText } from "../dom.js";
import { count, duration, percent } from "../format.js";
import { t } from "../i18n.js";
import { button } from "../parts.js";

export const HIDDEN_SECRET = "********";
const UNITS = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]];

export function editor(setting, changed) {
  const make = setting.unit === "bytes" ? bytesEditor : (EDITORS[setting.kind] ?? textEditor);
  return { said: () => "", ...make(setting, changed) };
}

const EDITORS = {
  bool: boolEditor,
  choice: choiceEditor,
  int: numberEditor,
  float: numberEditor,
  networks: networksEditor,
  secret: secretEditor,
};

const listening = (changed) => ({ input: changed });

function field(setting, attributes, changed) {
  return el("input", {
    type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: setting.nullable ? t("config.empty") : null, readonly: setting.fixed, on: listening(changed), ...attributes,
  });
}

function textEditor(setting, changed) {
  const input = field(setting, {}, changed);
  return {
    node: input,
    input,
    read: () => (input.value.trim() === "" && setting.nullable ? null : input.value.trim()),
    write: (value) => (input.value = value ?? ""),
  };
}

const numberOf = (text) => {
  const number = Number(text);
  const whole = /^-?\d+(\.\d+)?$/.test(text) && (text.includes(".") || Number.isSafeInteger(number));
  return whole ? number : text;
};

function numberEditor(setting, changed) {
  const input = field(setting, { inputmode: setting.kind === "int" ? "numeric" : "decimal", class: "number-input" }, changed);
  const unit = setting.unit === "s" ? el("span.soft", t("unit.s")) : null;
  return {
    node: el("div.with-unit", input, unit),
    input,
    read: () => (input.value.trim() === "" && setting.nullable ? null : numberOf(input.value.trim())),
    write: (value) => (input.value = value ?? ""),
    said() {
      const value = numberOf(input.value.trim());
      if (typeof value !== "number") return "";
      if (setting.unit === "share") return `= ${percent(value, 1)}`;
      return setting.unit === "s" && value >= 120 ? `= ${duration(value)}` : "";
    },
  };
}

// In the largest unit that keeps the number of bytes whole.
function bytesEditor(setting, changed) {
  const input = field(setting, { inputmode: "decimal", class: "number-input" }, changed);
  const unit = el("select", { "aria-label": t("unit.of", { title: setting.key }), on: listening(changed) },
    UNITS.map(([name]) => el("option", { value: name }, name)).reverse());
  const size = () => UNITS.find(([name]) => name === unit.value)[1];
  const read = () => {
    const text = input.value.trim();
    if (text === "" && setting.nullable) return null;
    const value = numberOf(text);
    return typeof value === "number" ? Math.round(value * size()) : value;
  };
  return {
    node: el("div.with-unit", input, unit),
    input,
    read,
    write(value) {
      if (typeof value !== "number") return (input.value = value ?? "");
      const [name, size] = UNITS.find(([, size]) => value !== 0 && value % size === 0) ?? ["B", 1];
      unit.value = name;
      input.value = value / size;
    },
    said: () => (typeof read() === "number" && unit.value !== "B" ? `= ${t("unit.bytes", { n: count(read()) })}` : ""),
  };
}

function boolEditor(setting, changed) {
  const input = el("input.switch", { type: "checkbox", role: "switch", disabled: setting.fixed, on: listening(changed) });
  const word = el("span.soft", { "aria-hidden": "true" });
  const show = () => setText(word, t(input.checked ? "on" : "off"));
  input.addEventListener("input", show);
  return {
    node: el("div.with-unit", input, word),
    input,
    read: () => input.checked,
    write(value) {
      input.checked = value === true;
      show();
    },
  };
}

function choiceEditor(setting, changed) {
  const options = [...(setting.nullable ? [""] : []), ...setting.choices];
  const input = el("select", { on: listening(changed) },
    options.map((value) => el("option", { value }, value === "" ? t("config.unset") : value)));
  return {
    node: input,
    input,
    read: () => (input.value === "" ? null : input.value),
    write: (value) => (input.value = value ?? ""),
  };
}

function networksEditor(setting, changed) {
  const input = el("textarea", { rows: 3, spellcheck: "false", placeholder: t("config.networks"), on: listening(changed) });
  const read = () => {
    const lines = input.value.split(/[\s,;，；]+/).filter(Boolean);
    return lines.length === 0 && setting.nullable ? null : lines;
  };
  return {
    node: input,
    input,
    read,
    write: (value) => (input.value = (value ?? []).join("\n")),
  };
}

// The node never says a secret; an empty field means that it stays.
function secretEditor(setting, changed) {
  let set = false;
  let cleared = false;
  const input = field(setting, { type: "password", autocomplete: "new-password" }, () => {
    cleared = false;
    showClear();
    changed();
  });
  const show = button("quiet", "show", t("secret.show"), { "aria-pressed": "false", on: { click: reveal } });
  const clear = button("quiet danger", "remove", t("secret.clear"), { on: { click: empty } });

  function reveal() {
    const hidden = input.type === "password";
    input.type = hidden ? "text" : "password";
    show.setAttribute("aria-pressed", hidden);
  }

  function empty() {
    input.value = "";
    cleared = true;
    showClear();
    input.focus();
    changed();
  }

  function showClear() {
    setHidden(clear, !set || cleared);
    input.placeholder = t(cleared ? "secret.cleared" : set ? "secret.set" : "secret.unset");
  }

  return {
    node: el("div.with-unit.secret", input, show, clear),
    input,
    read: () => (input.value !== "" ? input.value : cleared || !set ? null : HIDDEN_SECRET),
    write(value) {
      cleared = set && value === null;
      input.value = value === HIDDEN_SECRET || value === null ? "" : value;
      showClear();
    },
    // Tells the editor what the node has, apart from what is typed.
    saved(value) {
      set = value !== null;
      cleared &&= set;
      showClear();
    },
  };
}
