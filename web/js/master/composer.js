// The form that sends a message to nodes.

import { post } from "../api.js";
import { notify, sentenceOf } from "../dialog.js";
import { el, setAttribute } from "../dom.js";
import { t } from "../i18n.js";
import { card, complain } from "../parts.js";
import { WITH_VIRTUAL, destinationField } from "./destinations.js";

export const PATH = "/api/v1/casts";
const LIFETIMES = { hour: 3600, day: 86400, week: 7 * 86400 };
const PRIORITIES = ["low", "normal", "high", "urgent"];
// The same message is not sent twice, however often its answer was lost.
const freshKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function composer(live, sent) {
  const field = (name, input, wrong = null) => el("div.field", el("label", { for: input.id }, t(`compose.${name}`)), input, wrong);
  const wrong = el("p.wrong", { id: "compose-text-wrong", role: "alert" });
  const failed = el("p.wrong", { id: "compose-wrong", role: "alert" });
  const text = el("textarea", { id: "compose-text", rows: 2, "aria-describedby": "compose-text-wrong" });
  const to = destinationField(live, { id: "compose-to", label: t("to.name"), kinds: WITH_VIRTUAL });
  const topic = el("input", { id: "compose-topic", autocomplete: "off", maxlength: 200, "aria-describedby": "compose-topic-help" });
  topic.value = "notice";
  const expires = chooser("expires", Object.keys(LIFETIMES), "day");
  const priority = chooser("priority", PRIORITIES, "normal");
  const send = el("button.button.primary", { type: "submit" }, t("compose.send"));
  const form = el("form.fields", { novalidate: true, onsubmit: submit },
    field("text", text, wrong),
    to.node,
    el("details", el("summary", t("compose.more")),
      field("topic", topic, el("p.soft.small", { id: "compose-topic-help" }, t("compose.topic.help"))),
      field("expires", expires), field("priority", priority)),
    failed,
    el("div.buttons", send));
  const node = card("compose-title", t("compose.title"), el("p.soft", t("compose.what")), form);
  let key = freshKey();

  function chooser(name, choices, chosen) {
    const select = el("select", { id: `compose-${name}` }, choices.map((choice) => el("option", { value: choice }, t(`compose.${choice}`))));
    select.value = chosen;
    return select;
  }

  async function submit(event) {
    event.preventDefault();
    if (send.getAttribute("aria-disabled") === "true") return;
    const [body, destinations] = [text.value.trim(), to.value()];
    complain(wrong, body === "" ? t("compose.wrong.text") : "");
    setAttribute(text, "aria-invalid", body === "" ? "true" : null);
    to.say(destinations === null ? t("to.wrong") : "");
    if (body === "" || destinations === null) return (body === "" ? text : to).focus();
    const cast = {
      topic: topic.value.trim(), body, priority: priority.value, expires_in_s: LIFETIMES[expires.value], key, to: destinations,
    };
    setAttribute(send, "aria-disabled", "true");
    complain(failed, "");
    try {
      await post(PATH, cast);
      notify(t("compose.sent"));
      // Somebody may have gone on typing.
      if (text.value.trim() === body) text.value = "";
      key = freshKey();
      sent();
    } catch (error) {
      complain(failed, sentenceOf(error));
      // Another text with the key of one that was saved after all.
      if (error.status === 409) key = freshKey();
    } finally {
      setAttribute(send, "aria-disabled", null);
    }
  }

  return { node, update: to.update };
}
