// One control for each kind of setting: from a value to what is typed, and back.
// What can't be read goes to the node as typed: the node alone knows the rules.
//
// An editor is { node, input, read(), write(value), said() }: `input` has the
// focus and the label, `said` is the value in plainer words, "" for none.

import { notify } from "../dialog.js";
import { el, setHidden, setText } from "../dom.js";
import { count, duration, percent } from "../format.js";
import { t } from "../i18n.js";
import { button, copyText } from "../parts.js";

export const HIDDEN_SECRET = "********";
const UNITS = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]];
// "10GB" and "10 GiB", whichever unit is chosen beside them.
const SIZE = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b(?:\/s)?$/i;

export function editor(setting, changed) {
  const make = setting.unit === "bytes" ? bytesEditor : EDITORS[setting.kind] ?? textEditor;
  const made = make(setting, changed);
  const { input } = made;
  return {
    node: input,
    read: () => textOf(setting, input),
    write: (value) => (input.value = value ?? ""),
    said: () => "",
    ...made,
  };
}

const EDITORS = {
  bool: boolEditor,
  choice: choiceEditor,
  int: numberEditor,
  float: numberEditor,
  networks: networksEditor,
  main_servers: networksEditor,
  schedule: scheduleEditor,
  secret: secretEditor,
};

const textOf = ({ nullable }, { value }) => (value.trim() === "" && nullable ? null : value.trim());

function numberOf(setting, input) {
  const text = textOf(setting, input);
  const number = Number(text);
  const whole = /^-?\d+(\.\d+)?$/.test(text) && (text.includes(".") || Number.isSafeInteger(number));
  return whole ? number : text;
}

const textEditor = (setting, changed, attributes = {}) => ({
  input: el("input", {
    type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: setting.nullable ? t("config.empty") : null, readonly: setting.fixed, oninput: changed, ...attributes,
  }),
});

function numberEditor(setting, changed) {
  const { input } = textEditor(setting, changed, { inputmode: setting.kind === "int" ? "numeric" : "decimal", class: "number-input" });
  const read = () => numberOf(setting, input);
  return {
    node: el("div.with-unit", input, setting.unit === "s" && el("span.soft", t("unit.s"))),
    input,
    read,
    said() {
      const value = read();
      if (typeof value !== "number") return "";
      if (setting.unit === "share") return `= ${percent(value, 1)}`;
      return setting.unit === "s" && value >= 120 ? `= ${duration(value)}` : "";
    },
  };
}

// In the largest unit that keeps the number of bytes whole.
function bytesEditor(setting, changed) {
  const { input } = textEditor(setting, changed, { inputmode: "decimal", class: "number-input" });
  const unit = el("select", { "aria-label": t("unit.of", { title: setting.key }), disabled: setting.fixed, oninput: changed },
    UNITS.map(([name]) => el("option", { value: name }, name)).reverse());
  const size = () => UNITS.find(([name]) => name === unit.value)[1];
  const read = () => {
    const value = numberOf(setting, input);
    const [, number, letter, binary] = input.value.trim().match(SIZE) ?? [];
    if (number) return Math.round(number * (binary ? 1024 : 1000) ** " kmgt".indexOf(letter.toLowerCase() || " "));
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
  const input = el("input.switch", { type: "checkbox", role: "switch", disabled: setting.fixed, oninput: changed });
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

function choiceEditor({ choices, nullable, fixed }, changed) {
  const option = (value) => el("option", { value }, value || t("config.unset"));
  const input = el("select", { disabled: fixed, oninput: changed }, nullable && option(""), choices.map(option));
  return { input, read: () => input.value || null };
}

function networksEditor(setting, changed) {
  return listEditor(setting, changed, (text) => text.split(/[\s,;，；]+/));
}

// With what Chinese keyboards give for colons, hyphens and digits.
function scheduleEditor(setting, changed) {
  return listEditor(setting, changed, (text) => text.normalize("NFKC").replaceAll(/[–—~]/g, "-").split(/[\n,;]+/));
}

function listEditor({ kind, nullable, fixed }, changed, split) {
  const input = el("textarea", { rows: 3, spellcheck: "false", placeholder: t(`config.${kind}`), readonly: fixed, oninput: changed });
  const read = () => {
    const lines = split(input.value).map((line) => line.trim()).filter(Boolean);
    return lines.length === 0 && nullable ? null : lines;
  };
  return { input, read, write: (value) => (input.value = (value ?? []).join("\n")) };
}

// 32 letters and digits, "-" and "_".
function randomSecret() {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

// The node never says a secret; an empty field means that it stays.
function secretEditor(setting, changed) {
  let set = false;
  let cleared = false;
  let generated = "";
  const edited = (clears) => {
    cleared = clears;
    showButtons();
    changed();
  };
  const { input } = textEditor(setting, () => edited(false), { type: "password", autocomplete: "new-password" });
  const show = button(".quiet", "show", t("secret.show"), { "aria-pressed": "false", onclick: reveal });
  const clear = button(".quiet.danger", "remove", t("secret.clear"), { onclick: empty });
  const generate = button(".quiet", "sync", t("secret.generate"), { "data-action": "generate", onclick: fill });
  const copy = button(".quiet", "copy", t("copy"), { "data-action": "copy", onclick: async () => notify(await copyText(input)) });

  function reveal() {
    showText(input.type === "password");
  }

  function showText(shown) {
    input.type = shown ? "text" : "password";
    show.setAttribute("aria-pressed", shown);
  }

  function fill() {
    generated = randomSecret();
    input.value = generated;
    showText(true);
    input.select();
    edited(false);
  }

  function empty() {
    input.value = "";
    input.focus();
    edited(true);
  }

  const isGenerated = () => generated !== "" && input.value === generated;

  function showButtons() {
    setHidden(clear, !set || cleared || setting.fixed);
    setHidden(generate, !setting.generated || setting.fixed);
    setHidden(copy, !isGenerated());
    input.placeholder = t(cleared ? "secret.cleared" : set ? "secret.set" : "secret.unset");
  }

  return {
    node: el("div.with-unit.secret", input, show, generate, copy, clear),
    input,
    read: () => input.value || (cleared || !set ? null : HIDDEN_SECRET),
    write(value) {
      cleared = set && value === null;
      input.value = value === HIDDEN_SECRET ? "" : value ?? "";
      // Saved or dropped: what is typed next is not for everybody's eyes.
      if (generated !== "" && !isGenerated()) {
        generated = "";
        showText(false);
      }
      showButtons();
    },
    // Tells the editor what the node has, apart from what is typed.
    saved(value) {
      set = value !== null;
      cleared &&= set;
      showButtons();
    },
    said: () => (isGenerated() ? t("secret.generated") : ""),
  };
}
