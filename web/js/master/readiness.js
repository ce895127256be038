// What is said of the nodes' readiness for a meeting: one sentence, one tone, one bar.

import { el, setAttribute } from "../dom.js";
import { moment, timeLeft } from "../format.js";
import { known, t } from "../i18n.js";
import { isolated } from "../parts.js";
import { listed } from "../texts/shared.js";
import { isRunning, nameOf } from "./health.js";

// Nodes that a sentence names; the others are counted.
const NAMED = 5;
const STUCK = ["failing", "away", "unreachable"];
// Parts of the bar, from the left.
const PARTS = { good: ["ready"], busy: ["pulling"], none: ["waiting"], error: STUCK };

export const isStuck = (readiness) => STUCK.some((state) => readiness[state] > 0);

// "bare", "alone" without nodes, "stuck", "spreading", "ready"; null if nodes need not have it.
export function kindOf({ status, size, readiness }) {
  if (size === null) return isRunning({ status }) ? "bare" : null;
  if (readiness === null) return null;
  if (readiness.total === 0) return "alone";
  if (readiness.is_ready) return "ready";
  return isStuck(readiness) ? "stuck" : "spreading";
}

// "38 of 40 nodes are ready with version 7, the last at 09:02; not ready: 3-East, 4-West."
export function readinessSentence(meeting, live) {
  const { readiness } = meeting;
  const kind = kindOf(meeting);
  if (kind === "bare") return t("package.missing");
  if (kind === null) return "";
  if (kind === "alone") return t(meeting.prestaged ? "nodes.awaited" : "nodes.none");
  const { total, ready, version, last_ready_at: last, lacking, seconds_left: left } = readiness;
  const names = lacking.slice(0, NAMED).map(({ node_id: id }) => isolated(nameOf(live.status, id))).join(t("board.comma"));
  const more = total - ready - NAMED;
  return [
    t(kind === "ready" ? "board.all" : "board.some", { total, ready, version }),
    last === null ? "" : t("board.last", { time: moment(last, live.now()) }),
    names && t("board.missing", { names }),
    more > 0 ? t("board.more", { n: total - ready, more }) : "",
    left === null ? "" : t("board.left", { time: timeLeft(left) }),
    t("board.end"),
  ].join("");
}

// What is known of a node that is not ready: "37 % · about 2 min left", "there is not
// enough room: …".
export function detailOf({ state, percent, seconds_left: left, reason, text }) {
  const code = reason && [`lacking.${reason}`, `cause.${reason}`].find(known);
  const told = reason ? t(code || "cause.other") : "";
  const progress = state === "pulling" && percent !== null ? `${percent} %` : "";
  const why = [told, text].filter(Boolean).join(t("board.colon"));
  return listed(progress, left === null ? "" : timeLeft(left), why);
}

// How much of the package is at the nodes, as a share of 1.
export function shareOf({ total, ready, lacking }) {
  const parts = lacking.reduce((sum, { state, percent }) => sum + (state === "pulling" ? (percent ?? 0) : 0), 0);
  return total === 0 ? 0 : (ready + parts / 100) / total;
}

// The nodes by state, as one bar.
export function readinessBar() {
  const parts = Object.fromEntries(Object.keys(PARTS).map((tone) => [tone, el("span", { "data-tone": tone })]));
  const node = el("div.board-bar", { role: "img" }, Object.values(parts));
  return {
    node,
    update(readiness, text) {
      setAttribute(node, "aria-label", text);
      for (const [tone, states] of Object.entries(PARTS)) {
        const count = states.reduce((sum, state) => sum + readiness[state], 0);
        parts[tone].style.setProperty("width", `${(100 * count) / Math.max(1, readiness.total)}%`);
      }
    },
  };
}
