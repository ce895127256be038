// Messages from operators at the main server (casts), for who may manage this node: the newest
// first, as text, until they expire or are dismissed in this browser.

import { post } from "../api.js";
import { el, foreign, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { ago, moment } from "../format.js";
import { t } from "../i18n.js";
import { icon } from "../icons.js";
import { button, card } from "../parts.js";
import { listed } from "../texts/shared.js";

const DISMISSED = "edge-mirror.dismissed";
const MAX_DISMISSED = 100;
// Others when they are asked for.
const SHOWN = 3;
const TONES = { urgent: "error", high: "warning" };

// By number and time: numbers begin anew if the node's folder is replaced.
const keyOf = ({ n, at }) => `${n} ${at}`;

function readDismissed() {
  try {
    const keys = JSON.parse(localStorage.getItem(DISMISSED));
    return Array.isArray(keys) ? keys : [];
  } catch {
    return []; // Storage is forbidden, or holds something else.
  }
}

let dismissed = readDismissed();
let latest = [];

export const notices = {
  take: ({ notices: list }) => (latest = list),

  shown: (now) => latest.filter((notice) => notice.expires_at > now && !dismissed.includes(keyOf(notice))),

  dismiss(notice) {
    dismissed = [...dismissed, keyOf(notice)].slice(-MAX_DISMISSED);
    try {
      localStorage.setItem(DISMISSED, JSON.stringify(dismissed));
    } catch {
      // Then it comes back with the page.
    }
    // The main server is told that it was read, with those before it; if it can't be, no harm.
    post(`/api/casts/read?n=${notice.n}`).catch(() => {});
  },
};

export function noticesCard({ live, session }) {
  const list = el("ul.notices", { id: "panel-notices", "aria-live": "polite" });
  const show = keyedList(list, keyOf, () => noticeRow(live, update));
  const more = button(".quiet", "show", "", { "data-action": "more-notices", onclick: () => (isAll = true, update()) });
  const node = card("notices-title", t("notices.title"), list, el("div.buttons", more));
  let isAll = false;

  // Who logged out sees none.
  function update() {
    const all = session.operator ? notices.shown(live.now()) : [];
    const rest = isAll ? 0 : all.length - SHOWN;
    show(isAll ? all : all.slice(0, SHOWN));
    setText(more.lastChild, t("notices.more", { n: rest }));
    setHidden(more, rest <= 0);
    setHidden(node, all.length === 0);
  }

  setHidden(node, true);
  return { node, update };
}

function noticeRow(live, changed) {
  let notice = null;
  const text = foreign("", ".panel-notice-text");
  // Its time changes all the while, which nobody wants to be told.
  const about = el("p.small.soft", { "aria-live": "off" });
  const drop = el("button.notice-close", { "data-action": "dismiss", onclick: dismiss }, icon("close"));
  const node = el("li.panel-notice", el("div", text, about), drop);

  function dismiss() {
    const next = node.nextElementSibling ?? node.previousElementSibling;
    notices.dismiss(notice);
    changed();
    next?.querySelector("button")?.focus();
  }

  return {
    node,
    update(fresh) {
      notice = fresh;
      const { n, priority, is_cut: isCut, at, expires_at: expires } = notice;
      setAttribute(node, "data-notice", n);
      setAttribute(node, "data-tone", TONES[priority] ?? "info");
      setText(text, isCut ? `${notice.text}…` : notice.text);
      setText(about, listed(TONES[priority] && t(`notices.${priority}`), ago(at, live.now()), t("notices.until", { time: moment(expires, live.now()) }), isCut && t("notices.cut")));
      setAttribute(drop, "aria-label", t("notices.dismiss", { text: notice.text.slice(0, 40) }));
    },
  };
}
