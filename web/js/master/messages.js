// Messages to nodes: those that were sent, and how far each is on its way. Loaded when it
// is first looked at.

import { call, get } from "../api.js";
import { act, ask, sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { bytes, dateTime, moment } from "../format.js";
import { addTexts, t } from "../i18n.js";
import { badge, button, card, complain, nothing, view } from "../parts.js";
import texts from "../texts/messages.js";
import { listed } from "../texts/shared.js";
import { PATH, composer } from "./composer.js";
import { destinationNames } from "./destinations.js";
import { nameOf } from "./health.js";

const REFRESH_MS = 2000;
const PAGE = 20;
// Deliveries that are asked for at a time: each is counted over all nodes.
const ASKED = 5;
// Names in a sentence; the others are counted.
const NAMED = 5;
const LOOKS = {
  active: ["sync", "busy"], delivered: ["good", "good"], expired: ["warning", "warning"], cancelled: ["stopped", "none"],
};

addTexts(texts);

const pathOf = (id) => `${PATH}/${encodeURIComponent(id)}`;

export function messagesView({ live }) {
  const sent = sentCard(live);
  const compose = composer(live, () => sent.refresh());
  return {
    node: view("messages", compose.node, sent.node),
    update(event) {
      compose.update(event);
      sent.update();
    },
  };
}

function sentCard(live) {
  const search = el("input", { type: "search", "aria-label": t("messages.search"), placeholder: t("messages.search"), oninput: searched });
  const list = el("ul.messages", { id: "messages", "aria-label": t("messages.name") });
  const show = keyedList(list, ({ id }) => id, () => messageRow(live, refresh));
  const none = nothing("messages");
  const wrong = el("p.wrong", { role: "alert" });
  const more = button(".quiet", "show", t("messages.earlier"), { "data-action": "more", onclick: earlier });
  const node = card("messages-title", t("messages.title"), el("div.tools", search), list, none.node, wrong, el("div.buttons", more));
  let shown = []; // the newest first
  let next = null;
  let asked = -Infinity;
  let busy = false; // one pass at a time
  let timer = null;
  let round = 0; // answers to an earlier search are dropped

  const query = (before) => `?limit=${PAGE}&search=${encodeURIComponent(search.value.trim())}${before ? `&before=${before}` : ""}`;

  async function fetchPage(before = null) {
    const mine = round;
    try {
      const page = await get(`${PATH}${query(before)}`);
      if (mine !== round) return null;
      complain(wrong, "");
      return page;
    } catch (error) {
      if (mine === round) complain(wrong, sentenceOf(error));
      return null;
    }
  }

  // The newest ones, in front of those that are shown already; then how far they are.
  async function refresh() {
    if (busy) return;
    busy = true;
    try {
      const page = await fetchPage();
      if (page === null) return;
      // Where it does not reach those that are shown, there may be more between them.
      const fresh = new Set(page.casts.map(({ id }) => id));
      const reached = shown.findLastIndex(({ id }) => fresh.has(id));
      const rest = reached < 0 ? [] : shown.slice(reached + 1);
      if (rest.length === 0) next = page.next;
      take([...page.casts, ...rest]);
      await follow();
    } finally {
      busy = false;
      asked = performance.now();
    }
  }

  async function earlier() {
    const page = await fetchPage(next);
    if (page === null) return;
    next = page.next;
    const there = new Set(shown.map(({ id }) => id));
    take([...shown, ...page.casts.filter(({ id }) => !there.has(id))]);
  }

  // Each cast stays one object, however often it is read.
  function take(casts) {
    const before = new Map(shown.map((cast) => [cast.id, cast]));
    shown = casts.map((cast) => Object.assign(before.get(cast.id) ?? { delivery: null, asked: 0 }, cast));
    paint();
  }

  // How far those are that are on their way: some at a time, the ones first that were asked
  // for longest ago.
  async function follow() {
    const mine = round;
    const open = shown.filter((cast) => !isSettled(cast)).sort((a, b) => a.asked - b.asked);
    for (const cast of open.slice(0, ASKED)) {
      const { delivery } = await get(`${pathOf(cast.id)}?nodes=${NAMED}`).catch(() => cast);
      if (mine !== round) return;
      Object.assign(cast, { delivery, asked: performance.now() });
    }
    paint();
  }

  function paint() {
    show(shown);
    setHidden(more, next === null);
    const isSearched = search.value.trim() !== "";
    setHidden(search, shown.length === 0 && !isSearched);
    none.show(shown.length > 0 ? "" : isSearched ? "nomatch.messages" : "messages");
  }

  function searched() {
    round += 1;
    shown = [];
    clearTimeout(timer);
    timer = setTimeout(() => (busy ? searched() : refresh()), 250);
  }

  setHidden(search, true);
  setHidden(more, true);
  return {
    node,
    refresh,
    update() {
      if (performance.now() - asked > REFRESH_MS) refresh();
    },
  };
}

// Nothing of it changes any more.
const isSettled = ({ status, delivery }) =>
  delivery !== null && (status !== "active" || delivery.pending + delivery.sent === 0);

function messageRow(live, refresh) {
  let cast = null;
  const body = foreign("", ".message-body");
  const about = el("p.small.soft");
  const state = badge();
  const words = el("span.small");
  const bar = el("progress.progress", { "aria-hidden": "true" });
  const lacking = el("p.small.soft");
  const cancel = button(".quiet.danger", "stop", t("messages.cancel"), { "data-action": "cancel", onclick: askToCancel });
  const node = el("li.message", body, about, el("div.message-state", state.node, words, cancel), bar, lacking);

  async function askToCancel() {
    const { id } = cast;
    const yes = await ask({
      title: t("messages.cancel.title"), name: textOf(cast), lines: [t("messages.cancel.what")],
      yes: t("messages.cancel"), no: t("messages.cancel.no"), dangerous: true,
    });
    if (yes && await act(cancel, () => call("DELETE", pathOf(id)), t("messages.cancelled"))) refresh();
  }

  function namesOf(delivery, states) {
    const nodes = delivery.nodes.filter(({ state }) => states.includes(state));
    const names = nodes.slice(0, NAMED).map(({ node_id: id }) => nameOf(live.status, id)).join(t("board.comma"));
    const n = states.reduce((sum, state) => sum + delivery[state], 0);
    return n > NAMED ? t("messages.more", { names, n, rest: n - NAMED }) : names;
  }

  function update(fresh) {
    cast = fresh;
    const { id, topic, at, to, by, status, expires_at: expires, delivery } = cast;
    const open = delivery === null ? null : delivery.pending + delivery.sent;
    const all = delivery === null ? 0 : open + delivery.received + delivery.missed;
    const kind = status === "active" && all > 0 && open === 0 ? "delivered" : status;
    setAttribute(node, "data-message", id);
    setAttribute(node, "data-state", kind);
    setText(body, textOf(cast));
    setText(about, listed(dateTime(at), topic, t("messages.to", { names: destinationNames(to, live.status) }), t("messages.by", { address: by.address }),
      kind === "active" && t("messages.until", { time: moment(expires, live.now()) })));
    state.show(LOOKS[kind], t(`messages.state.${kind}`));
    setText(words, delivery === null ? "" : all === 0 ? t("messages.nobody")
      : listed(t("messages.have", { have: delivery.received, all }), delivery.read > 0 && t("messages.read", { n: delivery.read })));
    setHidden(bar, kind !== "active" || all === 0);
    Object.assign(bar, { max: Math.max(all, 1), value: delivery?.received ?? 0 });
    const lack = delivery === null ? "" : namesOf(delivery, ["pending", "sent"]);
    const missed = delivery === null ? "" : namesOf(delivery, ["missed"]);
    setText(lacking, listed(lack && t("messages.lacking", { names: lack }), missed && t("messages.missed", { names: missed })));
    setHidden(lacking, lacking.textContent === "");
    setHidden(cancel, kind !== "active");
  }

  return { node, update };
}

// What CastRay's clients send has its text, or its file, within.
function textOf({ topic, body }) {
  const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const said = (sender, text) => `${sender}${t("board.colon")}${text}`;
  const { sender, content, file_name: file, file_size: size } = body ?? {};
  if (topic === "castray" && sender && content) return said(sender, plain(content));
  if (topic === "castray.file" && sender && file) return said(sender, `${file} (${bytes(size)})`);
  return plain(body);
}
