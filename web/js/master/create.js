// The dialog that makes a meeting, with its package at once if it is at hand.

import { post } from "../api.js";
import { notify, openDialog, sentenceOf } from "../dialog.js";
import { el, setAttribute } from "../dom.js";
import { t } from "../i18n.js";
import { complain } from "../parts.js";
import { send } from "./meeting-row.js";

const ID = /^(?!\.{1,2}$)[^/\\\p{Cc}]+$/u;
const MAX_ID_BYTES = 200;

// `file`: a package that was dropped, whose name may do as the title; `of`: which of
// several it is. Returns the dialog.
export function createDialog({ file, of = null }) {
  const field = (name, attributes, wrong = null) => {
    const about = [`${name}-help`, wrong ? `${name}-wrong` : ""].join(" ").trim();
    const input = el("input", { id: `new-${name}`, name, autocomplete: "off", "aria-describedby": about, ...attributes });
    const help = el("p.soft.small", { id: `${name}-help` }, t(`create.${name}.help`));
    return [input, el("div.field", el("label", { for: `new-${name}` }, t(`create.${name}`)), input, help, wrong)];
  };
  const complaint = (name) => el("p.wrong", { id: `${name}-wrong`, role: "alert" });
  const wrong = { title: complaint("title"), id: complaint("id") };
  const [title, titleField] = field("title", { maxlength: 200, required: true }, wrong.title);
  const [time, timeField] = field("time", { maxlength: 100 });
  const [picked, packageField] = field("package", { type: "file", accept: ".zip,application/zip" });
  const [id, idField] = field("id", { maxlength: MAX_ID_BYTES, spellcheck: "false", autocapitalize: "off" }, wrong.id);
  const cancel = el("button.button", { "data-answer": "no" }, t("cancel"));
  const agree = el("button.button.primary", { type: "submit", "data-answer": "yes" }, t("create.yes"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    titleField, packageField, timeField,
    el("details", el("summary", t("create.more")), idField),
    el("div.dialog-buttons", cancel, agree));
  const dialog = openDialog(of ? t("create.title.each", of) : t("create.title.of"), form);
  cancel.onclick = () => dialog.close();
  if (file) {
    const dropped = new DataTransfer();
    dropped.items.add(file);
    picked.files = dropped.files;
    title.value = file.name.replace(/\.zip$/i, "").slice(0, 200);
  }
  title.focus();
  title.select();
  return dialog;

  function say(input, place, text) {
    complain(place, text);
    setAttribute(input, "aria-invalid", text ? "true" : null);
    if (!text) return;
    input.closest("details")?.setAttribute("open", "");
    input.focus();
  }

  async function submit(event) {
    event.preventDefault();
    const asked = { title: title.value.trim(), time: time.value.trim() || null, id: id.value.trim() || null };
    const bad = asked.id !== null && (!ID.test(asked.id) || new TextEncoder().encode(asked.id).length > MAX_ID_BYTES);
    say(id, wrong.id, bad ? t("create.id.wrong") : "");
    say(title, wrong.title, asked.title === "" ? t("create.title.wrong") : "");
    if (bad || asked.title === "" || agree.getAttribute("aria-disabled") === "true") return;
    setAttribute(agree, "aria-disabled", "true");
    try {
      const made = await post("/api/v1/meetings", asked);
      dialog.close();
      notify(t("create.done"));
      if (picked.files[0]) send(made, picked.files[0]);
    } catch (error) {
      // 409: there is one with this id.
      const about = error.status === 409 ? [id, wrong.id] : [title, wrong.title];
      say(...about, sentenceOf(error));
    } finally {
      setAttribute(agree, "aria-disabled", null);
    }
  }
}
