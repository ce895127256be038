// Nodes that wait to be accepted: new ones, and known ones that call from
// another address.

import { post } from "../api.js";
import { act, ask } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { dateTime } from "../format.js";
import { t } from "../i18n.js";
import { badge, button } from "../parts.js";
import { nodePath } from "./health.js";

export function pendingCard(live) {
  const list = el("ul", { id: "pending", "aria-label": t("pending.name") });
  const node = el("section.card.rows", { "aria-labelledby": "pending-title", hidden: true },
    el("h2", { id: "pending-title" }, t("pending.name")),
    el("p.soft", t("pending.what")),
    list);
  const show = keyedList(list, ({ id }) => id, pendingRow);
  return {
    node,
    update() {
      const pending = [...live.status.pending].sort((a, b) => a.id.localeCompare(b.id));
      show(pending);
      setHidden(node, pending.length === 0);
    },
  };
}

function pendingRow() {
  let claim = null;
  const name = foreign("", ".meeting-title");
  const address = foreign("", ".code.soft");
  const state = badge();
  const what = el("p.small.soft");
  const approve = button(".primary", "good", t("pending.approve"), { "data-action": "approve", onclick: accept });
  const refuse = button(".danger", "close", t("pending.refuse"), { "data-action": "refuse", onclick: askToRefuse });
  const row = el("li.meeting.pending-row",
    el("div.meeting-name", name, address),
    el("div.meeting-state", state.node, what),
    el("div.buttons", approve, refuse));

  // Of the one that is shown here: meanwhile another may claim the same id.
  const decide = (button, decision, done) =>
    act(button, () => post(`${nodePath(claim.id)}/${decision}?client=${encodeURIComponent(claim.client)}`), done);

  function accept() {
    return decide(approve, "approve", t("pending.approved"));
  }

  async function askToRefuse() {
    const yes = await ask({
      title: t("pending.refuse.title"), name: claim.id, lines: [t("pending.refuse.what")],
      yes: t("pending.refuse"), dangerous: true,
    });
    if (yes) await decide(refuse, "refuse", t("pending.refused"));
  }

  return {
    node: row,
    update(fresh) {
      claim = fresh;
      const { id, client, moves_from: from, first_seen: since } = claim;
      setAttribute(row, "data-pending", id);
      setText(name, id);
      setText(address, claim.address);
      state.show(["wait", "busy"], t(from ? "pending.moves" : "pending.new"));
      setText(what, from
        ? t("pending.moves.why", { from, client })
        : t("pending.new.why", { client, since: dateTime(since) }));
    },
  };
}
