// The configuration as a form made from the node's schema. The node checks
// what is typed as it is typed; only what was changed is sent.

import { get, post } from "../api.js";
import { ask, notify, sentenceOf, unsay } from "../dialog.js";
import { el, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { Drafts } from "../drafts.js";
import { pick, t } from "../i18n.js";
import { button, card, complain, view } from "../parts.js";
import { settingField } from "./field.js";

const TYPING_MS = 250;
const PORTS = { mainServerIp: "mainServerPort", publicIp: "publicPort" };

// They outlive the view, which is made anew for another language or login.
const drafts = new Drafts();

addEventListener("beforeunload", (event) => {
  if (drafts.size === 0) return;
  event.preventDefault();
  event.returnValue = "";
});

export function configView({ live }) {
  let settings = [];
  let fields = new Map(); // key -> field
  let problems = new Map(); // key -> what the node says of it
  let checks = 0;
  let typing = null;
  let saving = false;

  const count = el("p", { id: "unsaved", role: "status" });
  const mend = button(".quiet.danger", "error", t("config.mend"), { id: "mend", hidden: true });
  const discard = el("button.button", { id: "discard" }, t("config.discard"));
  const save = button(".primary", "check", t("config.save"), { type: "submit", id: "save" });
  const bar = el("div.save-bar", { id: "save-bar", hidden: true }, count, mend, el("div.buttons", discard, save));
  const failed = el("p.hint", { "data-tone": "error", id: "config-error", role: "alert" });
  const jumps = el("div.chips", { role: "group", "aria-label": t("config.groups") });
  const search = el("input", {
    type: "search", id: "config-search", placeholder: t("config.search"), "aria-label": t("config.search"),
    autocomplete: "off", spellcheck: "false", oninput: find,
  });
  const found = el("p.soft.small", { role: "status" });
  const groups = el("div.groups", el("div.skeleton.tall"), el("div.skeleton.tall"));
  const form = el("form", { id: "config", novalidate: true, autocomplete: "off" }, groups, bar);
  const node = view("config", el("div.tools", jumps, search), found, failed, form);

  async function load() {
    try {
      const [schema, config] = await Promise.all([fields.size > 0 ? null : get("/api/config/schema"), get("/api/config")]);
      drafts.read(config);
      if (schema) build(schema);
      fail("");
      render();
      if (drafts.size > 0) check();
      linked();
    } catch (error) {
      fail(sentenceOf(error));
    }
  }

  function fail(text) {
    complain(failed, text);
  }

  function build(schema) {
    ({ settings } = schema);
    fields = new Map(settings.map((setting) => [setting.key, settingField(setting, drafts, edited)]));
    const used = schema.groups.filter(({ name }) => settings.some(({ group }) => group === name));
    const nodes = (name, advanced) => settings.filter((setting) => setting.group === name && setting.advanced === advanced)
      .map(({ key }) => fields.get(key).node);
    const cards = used.map(({ name, title }) => {
      const few = nodes(name, true);
      return card(`group-${name}`, pick(title), nodes(name, false),
        few.length > 0 && el("details.advanced", el("summary", t("config.advanced", { n: few.length })), few));
    });
    setChildren(groups, cards);
    setChildren(jumps, cards.map(({ firstChild: head }) => {
      head.tabIndex = -1;
      const jump = () => {
        head.scrollIntoView();
        head.focus({ preventScroll: true });
      };
      return el("button.chip", { onclick: jump }, head.textContent);
    }));
  }

  // Every word has to be in a setting's name, meaning or key.
  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ key, title, meaning }) => {
      const text = [key, pick(title), pick(meaning)].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const shown = new Set(settings.filter(fits).map(({ key }) => key));
    for (const [key, field] of fields) setHidden(field.node, !shown.has(key));
    for (const part of groups.querySelectorAll(".card, .advanced")) {
      setHidden(part, !part.querySelector(".setting:not([hidden])"));
      if (part.open !== undefined) part.open = words.length > 0;
    }
    setHidden(jumps, words.length > 0);
    setText(found, words.length > 0 ? t("config.found", { n: shown.size }) : "");
  }

  function render() {
    for (const [key, field] of fields) field.update(problems.get(key));
    const rises = bar.hidden && drafts.size > 0;
    setHidden(bar, drafts.size === 0);
    // It may have come up right over the field that is typed in.
    if (rises && form.contains(document.activeElement)) document.activeElement.scrollIntoView({ block: "nearest" });
    setText(count, drafts.size === 0 ? "" : t("config.unsaved", { n: drafts.size }));
    setHidden(mend, problems.size === 0);
    setAttribute(save, "aria-disabled", saving || problems.size > 0 ? "true" : null);
    suggest();
  }

  // Under a main server that gives its nodes no key, they can't relay without one.
  function suggest() {
    const missing = live.status?.relay?.key_missing === true && !drafts.edited("relay.key");
    fields.get("relay.key")?.suggest(missing ? t("config.relay.key") : "");
  }

  // "10.0.0.5:8000" in the field of a host is both. Not while it is typed.
  function split({ target }) {
    const key = target.dataset.input;
    const both = PORTS[key] && target.value.trim().match(/^(?:http:\/\/)?([^:/\s]+|\[[^\]\s]+\])(?::(\d+))?\/?$/);
    if (!both) return;
    drafts.edit(key, both[1]);
    if (both[2]) drafts.edit(PORTS[key], Number(both[2]));
    edited(key);
  }

  function edited(key) {
    problems.delete(key);
    render();
    clearTimeout(typing);
    typing = setTimeout(check, TYPING_MS);
  }

  // The latest question alone counts: answers may overtake each other.
  async function check() {
    checks += 1;
    const mine = checks;
    if (drafts.size === 0) return take([]);
    try {
      const answer = await post("/api/config/check", drafts.patch());
      if (mine === checks) take(answer.problems);
    } catch {
      // Saving says what is wrong then.
    }
  }

  function forget() {
    drafts.clear();
    check();
  }

  function take(list) {
    problems = new Map(list.map((problem) => [problem.key, problem]));
    const stray = list.filter(({ key }) => !fields.has(key));
    fail(stray.map((problem) => `${problem.key}: ${pick(problem)}`).join(" "));
    render();
  }

  const toFirstWrong = () => fields.get(settings.find(({ key }) => problems.has(key))?.key)?.focus();

  async function submit(event) {
    event.preventDefault();
    if (saving || drafts.size === 0) return;
    clearTimeout(typing);
    await check();
    if (problems.size > 0) {
      unsay();
      return toFirstWrong();
    }
    const cautions = settings.filter(({ key, caution }) => caution && drafts.edited(key));
    const sure = cautions.length === 0 || (await ask({
      title: t("config.sure"),
      lines: cautions.map((setting) => `${pick(setting.title)}: ${pick(setting.caution)}`),
      yes: t("config.save"),
    }));
    if (sure) send();
  }

  async function send() {
    const [patch, sent] = [drafts.patch(), drafts.values()];
    saving = true;
    render();
    try {
      await post("/api/config", patch);
      drafts.settle(sent);
      notify(t("config.saved"));
      // The old port is open for a moment only: long enough to be told the new.
      if (patch.nodePort) live.start();
      await load();
    } catch (error) {
      if (error.status === 400 && error.answer.problems) {
        unsay();
        take(error.answer.problems);
        toFirstWrong();
      } else {
        notify(sentenceOf(error), "error");
      }
    } finally {
      saving = false;
      render();
    }
  }

  // "#/config/KEY", from a problem: to that setting.
  function linked() {
    const key = location.hash.match(/^#\/config\/(.+)$/)?.[1];
    if (!key || !fields.has(key)) return;
    history.replaceState(null, "", "#/config");
    fields.get(key).focus();
  }

  form.onsubmit = submit;
  form.onchange = split;
  mend.onclick = toFirstWrong;
  discard.onclick = () => {
    forget();
    node.querySelector("h1").focus();
  };

  return {
    node,
    update(event) {
      if (["shown", "config", "connected"].includes(event)) load();
      else suggest();
    },
    async leave() {
      if (drafts.size === 0) return true;
      const discarded = await ask({
        title: t("leave.title"), lines: [t("leave.what", { n: drafts.size })],
        yes: t("leave.discard"), no: t("leave.stay"), dangerous: true,
      });
      if (discarded) forget();
      return discarded;
    },
  };
}
