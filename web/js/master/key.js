// The key that nodes have to send, once there is one. It is shown when it is
// made and never again: only its digest is kept.

import { call, post } from "../api.js";
import { act, ask, openDialog } from "../dialog.js";
import { el, setHidden, setText } from "../dom.js";
import { t } from "../i18n.js";
import { badge, button, copyText } from "../parts.js";
import { admission } from "./health.js";

const PATH = "/api/v1/nodes/key";

export function keyCard() {
  let asked = null;
  let rule = "";
  const state = badge("key-state");
  const what = el("p");
  const make = button("", "login", "", { id: "key-make" });
  const remove = button(".danger", "remove", t("key.remove"), { id: "key-remove" });

  make.onclick = async () => {
    const yes = await ask({
      title: t(asked ? "key.renew.title" : "key.make.title"),
      lines: [t(asked ? "key.renew.what" : "key.make.what"), t("key.make.then")],
      yes: t(asked ? "key.renew" : "key.make"),
      dangerous: asked,
    });
    const answer = yes && (await act(make, () => post(PATH, {})));
    if (answer) showOnce(answer.key);
  };
  remove.onclick = async () => {
    const yes = await ask({ title: t("key.remove.title"), lines: [t("key.remove.what", { rule })], yes: t("key.remove"), dangerous: true });
    if (yes && (await act(remove, () => call("DELETE", PATH), t("key.removed")))) make.focus({ preventScroll: true });
  };

  return {
    node: el("section.card", { "aria-labelledby": "key-title" },
      el("div.card-head",
        el("h2", { id: "key-title" }, t("key.name"), " ", state.node),
        el("div.buttons", make, remove)),
      what),
    update(status) {
      asked = status.node_key;
      rule = admission(status);
      state.show(asked ? ["good", "good"] : ["stopped", "none"], t(asked ? "key.on" : "key.off"));
      setText(what, t(asked ? "key.on.what" : "key.off.what", { rule }));
      setText(make.lastChild, t(asked ? "key.renew" : "key.make"));
      setHidden(remove, !asked);
    },
  };
}

function showOnce(text) {
  const key = el("pre.code.key", { id: "key-text", tabindex: "0" }, text);
  // Said here: notices are behind the dialog.
  const said = el("p.soft", { role: "status", id: "key-said" });
  const click = async () => setText(said, await copyText(key));
  const copy = button("", "copy", t("copy"), { id: "key-copy", onclick: click });
  const done = el("button.button.primary", { "data-answer": "yes" }, t("key.noted"));
  const dialog = openDialog(t("key.made"), el("p", t("key.once")), key, el("p", t("key.where")), said,
    el("div.dialog-buttons", copy, done));
  // A slip of the finger must not lose it: only the button closes.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  done.onclick = () => dialog.close();
  copy.focus();
}
