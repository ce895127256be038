// The form that sends files to nodes: dropped or chosen, uploaded here first, then a task.

import { post } from "../api.js";
import { notify, sentenceOf, unsay } from "../dialog.js";
import { el, foreign, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { bytes, count } from "../format.js";
import { t } from "../i18n.js";
import { icon } from "../icons.js";
import { progress } from "../meter.js";
import { transfer } from "../pace.js";
import { button, card, complain } from "../parts.js";
import { listed } from "../texts/shared.js";
import { destinationField } from "./destinations.js";
import { droppedFiles, isHidden, pickedFiles } from "./file-names.js";
import { MAX_FILES, PATH, outbox, showOutbox } from "./outbox.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const DEADLINES = { hour: HOUR, day: DAY, week: 7 * DAY, month: 30 * DAY, quarter: 90 * DAY };
// Counted from the deadline.
const STAYS = { days7: 7 * DAY, days30: 30 * DAY, days365: 365 * DAY, keep: null };
const MAX_TITLE_BYTES = 200;
const MAX_SHOWN = 12;
// Of a title that nobody gave: three bytes for each at most, and within the limit.
const MAX_NAMED = 2;
const MAX_NAME_CHARS = 30;
// Which field a refusal of the main server is about, by its words.
const ABOUT = [
  ["to", /destination|there is no such (node|site|label|group)|no nodes in|no node to send/],
  ["title", /^title|title must/m],
  ["expires", /deadline/],
  ["stay", /retention/],
  ["files", /\bfiles?\b|SHA-256|upload/],
];

export function sendForm(live, view, sent) {
  const wrong = Object.fromEntries(["files", "title", "expires", "stay"].map((name) => [name, el("p.wrong", { id: `send-${name}-wrong`, role: "alert" })]));
  const failed = el("p.wrong", { id: "send-wrong", role: "alert" });
  const field = (name, input, help = false) => el("div.field",
    el("label", { for: input.id }, t(`send.${name}.label`)), input,
    help && el("p.soft.small", { id: `send-${name}-help` }, t(`send.${name}.help`)), wrong[name]);
  const select = (name, choices, chosen) => {
    const input = el("select", { id: `send-${name}`, "aria-describedby": [name !== "priority" && `send-${name}-help`, name in wrong && `send-${name}-wrong`].filter(Boolean).join(" ") || null },
      choices.map((choice) => el("option", { value: choice }, t(`send.${name}.${choice}`))));
    input.value = chosen;
    return input;
  };
  const drop = dropZone((list) => take(list), () => say("files", outbox.complaint()), wrong.files);
  const title = el("input", { id: "send-title", autocomplete: "off", maxlength: 200, "aria-describedby": "send-title-help send-title-wrong" });
  const to = destinationField(live, { id: "send-to", label: t("to.name") });
  const inputs = {
    absent: select("absent", ["wait", "skip"], "wait"),
    expires: select("expires", Object.keys(DEADLINES), "week"),
    priority: select("priority", ["low", "normal", "high", "urgent"], "normal"),
    stay: select("stay", Object.keys(STAYS), "days30"),
    access: select("access", ["operators", "open"], "operators"),
  };
  const more = el("details", el("summary", t("send.more")),
    field("title", title, true), ...Object.entries(inputs).map(([name, input]) => field(name, input, name !== "priority")));
  const send = el("button.button.primary", { type: "submit", "data-action": "send" }, t("send.send"));
  const bar = progress(t("send.uploading"));
  const said = el("span.small");
  const stop = button(".quiet.danger", "stop", t("send.stop"), { "data-action": "stop-upload", onclick: () => outbox.run?.stop() });
  const under = el("div.field", { id: "send-progress", hidden: true }, bar.node, el("div.buttons", said, stop));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    drop.node, to.node, more, under, failed, el("div.buttons", send));
  const node = card("send-heading", t("send.heading"), el("p.soft", t("send.what")), form);
  const controls = { files: drop.pick, title, expires: inputs.expires, stay: inputs.stay };

  function say(name, words) {
    if (name === "to") return to.say(words);
    complain(wrong[name], words);
    // Files are no input's value.
    if (name !== "files") setAttribute(controls[name], "aria-invalid", words ? "true" : null);
    if (words && more.contains(controls[name])) more.open = true;
  }

  function take(list) {
    if (outbox.run) return;
    const good = list.filter(({ name }) => !isHidden(name));
    const left = outbox.add(good);
    drop.note(listed(
      good.length < list.length && t("send.hidden", { n: list.length - good.length }),
      left > 0 && t("send.full", { n: left, max: count(MAX_FILES) }),
    ));
    say("files", outbox.complaint());
  }

  // What is missing or wrong, each beside its field. Returns the task, or null.
  function read() {
    const destinations = to.value();
    const name = title.value.trim();
    const faults = {
      files: outbox.count === 0 ? t("send.wrong.files") : outbox.complaint(),
      to: destinations === null ? t("to.wrong") : "",
      title: new TextEncoder().encode(name).length > MAX_TITLE_BYTES ? t("send.wrong.title") : "",
      expires: "",
      stay: "",
    };
    for (const [name, words] of Object.entries(faults)) say(name, words);
    const first = Object.keys(faults).find((name) => faults[name]);
    if (first) (first === "to" ? to : controls[first]).focus();
    if (first) return null;
    const { absent, expires, priority, stay, access } = Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, value]));
    const until = STAYS[stay] === null ? "keep" : { until: live.now() + DEADLINES[expires] + STAYS[stay] };
    return { title: name || titleOf(outbox.top()), to: destinations, absent, expires_in_s: DEADLINES[expires], priority, retention: until, access };
  }

  async function submit(event) {
    event.preventDefault();
    if (outbox.run) return;
    complain(failed, "");
    drop.note("");
    unsay();
    const task = read();
    if (task === null) return;
    let isUploaded = false;
    try {
      const made = await outbox.upload((files) => {
        isUploaded = true;
        return post(PATH, { ...task, files });
      });
      if (made === null) return notify(t("send.stopped"));
      outbox.clear();
      title.value = "";
      notify(t("send.sent"));
      sent(made.id);
    } catch (error) {
      const [about, words] = refusal(error, isUploaded);
      if (about === null) complain(failed, words);
      else say(about, words);
      // The form may be out of sight, or in the other language.
      if (!node.isConnected) notify(words, "error");
    }
  }

  // The field that an error is about, null for none of them, and the words for it.
  function refusal(error, isUploaded) {
    if (error.status === 0 && error.detail) return ["files", error.detail];
    if (error.status === 0) {
      sent(null);
      return [null, t(isUploaded ? "send.unsure" : "send.broken")];
    }
    const words = sentenceOf(error);
    if (!isUploaded) return [null, `${words} ${t("send.again")}`];
    outbox.forget(error.detail);
    const [about] = ABOUT.find(([, pattern]) => error.status < 500 && pattern.test(error.detail)) ?? [null];
    return [about, words];
  }

  let waiting = false;
  function paint() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const { run } = outbox;
      drop.show(run !== null);
      setHidden(under, run === null);
      setAttribute(send, "aria-disabled", run === null ? null : "true");
      if (run === null) return;
      setHidden(stop, run.isComplete);
      bar.update(run.total ? run.sent / run.total : null);
      setText(said, listed(run.count > 1 && t("send.files.done", { done: count(run.done), n: count(run.count) }), transfer(run.sent, run.total, run.pace)));
    });
  }

  drop.over(view);
  showOutbox(paint);
  paint();
  return { node, update: to.update };
}

// The names of what is sent, as far as a title has room.
function titleOf(top) {
  const names = top.slice(0, MAX_NAMED).map(({ name }) => name.replace(/\/$/, "").slice(0, MAX_NAME_CHARS)).join(", ");
  return top.length > MAX_NAMED ? `${names}, …` : names;
}

// Where files are dropped or chosen, with those that are there. All of the view takes what is
// dropped; without that the browser would leave the page for the file.
function dropZone(take, removed, wrong) {
  const chooser = (attributes) => {
    const input = el("input.spoken", { type: "file", multiple: true, tabindex: "-1", "aria-hidden": "true", ...attributes });
    input.onchange = () => {
      take(pickedFiles(input));
      input.value = "";
    };
    return input;
  };
  const [files, folder] = [chooser({ id: "send-pick" }), chooser({ id: "send-pick-folder", webkitdirectory: true })];
  const pick = button("", "add", t("send.pick"), { "data-action": "pick", "aria-describedby": "send-files-wrong", onclick: () => files.click() });
  const pickFolder = button("", "files", t("send.pick.folder"), { "data-action": "pick-folder", onclick: () => folder.click() });
  const clear = button(".quiet.danger", "close", t("send.clear"), { "data-action": "clear", onclick: () => (outbox.clear(), removed()) });
  const hint = el("p.soft", t("send.drop"));
  const chosen = el("ul.outbox", { "aria-label": t("send.files") });
  const sum = el("p.small.soft");
  const noted = el("p.small.soft", { role: "status" });
  const zone = el("div.drop-zone", { id: "send-drop" }, icon("upload"), hint, el("div.buttons", pick, pickFolder), files, folder);
  const node = el("div.field", { role: "group", "aria-labelledby": "send-files" },
    el("span.label", { id: "send-files" }, t("send.files")), zone, chosen, el("div.buttons", sum, clear), noted, wrong);

  const row = ({ name, count: n, size }, isBusy) => el("li", { "data-file": name },
    icon(name.endsWith("/") ? "files" : "meetings"), foreign(name), " ",
    el("span.small.soft", listed(name.endsWith("/") && t("send.of", { n }), bytes(size))),
    !isBusy && el("button.notice-close", { "data-action": "remove-file", "aria-label": t("send.remove", { name }), onclick: () => (outbox.remove(name), removed()) }, icon("close")));

  let shown = "";
  return {
    node,
    pick,
    note: (text) => setText(noted, text),
    show(isBusy) {
      const now = `${outbox.version} ${isBusy}`;
      if (now === shown) return;
      shown = now;
      const top = outbox.top();
      const rest = top.slice(MAX_SHOWN).reduce((sum, { count: n }) => sum + n, 0);
      setChildren(chosen, [...top.slice(0, MAX_SHOWN).map((one) => row(one, isBusy)), rest > 0 && el("li.soft", t("send.rest", { n: count(rest) }))]);
      setHidden(chosen, top.length === 0);
      setText(sum, top.length === 0 ? "" : t("send.sum", { n: outbox.count, size: bytes(outbox.size()) }));
      setHidden(clear, isBusy || top.length < 2);
      setHidden(zone, isBusy);
    },
    over(view) {
      const mark = (event, isOver) => {
        event.preventDefault();
        zone.toggleAttribute("data-over", isOver);
      };
      view.addEventListener("dragover", (event) => mark(event, true));
      view.addEventListener("dragleave", (event) => view.contains(event.relatedTarget) || mark(event, false));
      view.addEventListener("drop", async (event) => {
        mark(event, false);
        try {
          take(await droppedFiles(event.dataTransfer, MAX_FILES));
        } catch {
          complain(wrong, t("send.unread"));
        }
      });
    },
  };
}
