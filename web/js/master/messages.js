// Messages to nodes: those that were sent, and how far each is on its way. Loaded when it
// is first looked at.

import { call, get } from "../api.js";
import { act, ask, sentenceOf } from "../dialog.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { dateTime, moment } from "../format.js";
import { addTexts, t } from "../i18n.js";
import { badge, button, card, complain, nothing, view } from "../parts.js";
import texts from "../texts/messages.js";
import { listed } from "../texts/shared.js";
import { PATH, composer } from "./composer.js";
import { nameOf } from "./health.js";

const REFRESH_MS = 2000;
const PAGE = 20;
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
    update() {
      compose.update();
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
    asked = performance.now();
    const page = await fetchPage();
    if (page === null) return;
    const fresh = new Set(page.casts.map(({ id }) => id));
    const oldest = page.casts.at(-1)?.at ?? -Infinity;
    const rest = shown.filter(({ id, at }) => !fresh.has(id) && at < oldest);
    if (rest.length === 0) next = page.next;
    await take([...page.casts, ...rest]);
  }

  async function earlier() {
    const page = await fetchPage(next);
    if (page === null) return;
    next = page.next;
    await take([...shown, ...page.casts]);
  }

  async function take(casts) {
    const before = new Map(shown.map((cast) => [cast.id, cast]));
    shown = casts.map((cast) => ({ delivery: before.get(cast.id)?.delivery ?? null, ...cast }));
    paint();
    const mine = round;
    for (const cast of shown.filter((cast) => !isSettled(cast))) {
      const { delivery } = await get(pathOf(cast.id)).catch(() => cast);
      if (mine !== round) return;
      cast.delivery = delivery;
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
    timer = setTimeout(refresh, 250);
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
  delivery !== null && delivery.sent === 0 && (delivery.pending === 0 || status !== "active");

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
    const { id, body: said } = cast;
    const yes = await ask({
      title: t("messages.cancel.title"), name: textOf(said), lines: [t("messages.cancel.what")],
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
    setText(body, textOf(cast.body));
    const names = to.all ? t("compose.all") : [...to.nodes ?? [], ...to.sites ?? [], ...to.labels ?? []].join(t("board.comma"));
    setText(about, listed(dateTime(at), topic, t("messages.to", { names }), t("messages.by", { address: by.address }),
      kind === "active" && t("messages.until", { time: moment(expires, live.now()) })));
    state.show(LOOKS[kind], t(`messages.state.${kind}`));
    setText(words, delivery === null ? "" : all === 0 ? t("messages.nobody") : t("messages.have", { have: delivery.received, all }));
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

const textOf = (body) => (typeof body === "string" ? body : JSON.stringify(body));
