// Whether all is well, in one sentence on top, and if not, each problem with what
// to do: texts problem.CODE (or problem.CODE.LIMIT) and cause.CAUSE, and the same
// with .do.

import { el, keyedList, setAttribute, setHidden, setText } from "../dom.js";
import { bytes, count, moment } from "../format.js";
import { icon, setIcon } from "../icons.js";
import { known, t } from "../i18n.js";
import { isolated } from "../parts.js";

// The rest is shown when it is asked for: more of them would push everything else away.
const SHOWN = 3;

// `good(status)`: the sentence without problems. `more(status)`: numbers beside
// it, not read aloud. `extra(problem)`: what stands below it, or null. `home`:
// id of the view with the problems in full. `named(problem, status)`: the same with names
// for ids.
export function healthView({ live }, { good, more, home, extra, named = (problem) => problem }) {
  const drawn = icon("wait");
  const sentence = el("p", { id: "health", role: "status" }, t("health.loading"));
  const numbers = el("p.soft.small", { id: "health-more" });
  const lead = el("a.button.quiet", { href: `#/${home}` }, t("health.lead"), icon("link"));
  const list = el("ul.problems", { id: "problems", "aria-label": t("health.problems") });
  let most = SHOWN;
  const rest = el("button.button.quiet", { id: "more-problems", onclick: showAll });
  const summary = el("div.health", { "data-tone": "none" }, drawn, el("div.health-words", sentence, numbers), lead);
  const show = keyedList(list, keyOf, () => problemEntry(live, extra, say));

  function say(problem) {
    return whatIsWrong(named(problem, live.status), live.now());
  }

  function update(view) {
    const { status } = live;
    if (status === null) return;
    // What was true when the server was last heard must not reassure anybody.
    const stale = "stale" in document.body.dataset;
    const problems = status.problems ?? [];
    const worst = problems[0];
    const look = stale ? "wait" : worst?.code === "stopped" ? "stopped" : worst?.severity ?? "good";
    setIcon(drawn, look);
    setAttribute(summary, "data-tone", ["wait", "stopped"].includes(look) ? "none" : look);
    const others = problems.length > 1 ? t("health.others", { n: problems.length - 1 }) : "";
    const current = worst ? say(worst) + others : good(status);
    setText(sentence, stale ? t("health.away") : current);
    setText(numbers, stale ? "" : more(status));
    setHidden(list, view !== home || problems.length === 0);
    setHidden(lead, view === home || problems.length === 0);
    const left = view === home ? problems.length - most : 0;
    setHidden(rest, left <= 0);
    setText(rest, t("health.rest", { n: left }));
    if (view === home) show(problems.slice(0, most));
  }

  function showAll() {
    most = Infinity;
    update(document.body.dataset.view);
    list.children[SHOWN]?.querySelector("a, summary")?.focus({ preventScroll: true });
  }

  return {
    node: el("div.health-box", summary, list, rest),
    update,
    tick() {
      for (const entry of show.entries()) entry.tick();
    },
  };
}

const keyOf = ({ code, meeting = "", node = "" }) => `${code} ${meeting} ${node}`;

function problemEntry(live, extra, say) {
  const drawn = icon("warning");
  const what = el("strong");
  const advice = el("p");
  const countdown = el("p.soft.small");
  const technical = el("pre");
  const details = el("details.small", el("summary", t("technical")), technical);
  const more = el("p");
  const node = el("li.problem", drawn, el("div.problem-words", what, advice, countdown, more, details));
  let problem = null;

  const tick = () => {
    setText(countdown, nextTry(problem, live.now()));
  };
  return {
    node,
    tick,
    update(shown) {
      problem = shown;
      // A single one is in the sentence on top already.
      setHidden(what, live.status.problems.length === 1);
      setAttribute(node, "data-problem", problem.code);
      setAttribute(node, "data-tone", problem.severity);
      setIcon(drawn, problem.severity);
      setText(what, say(problem));
      setText(advice, whatToDo(problem));
      setHidden(details, !problem.text);
      setText(technical, problem.text ?? "");
      if (!more.hasChildNodes()) more.append(extra(problem) ?? "");
      tick();
    },
  };
}

// "Attempt 3 in 12 s."
export function nextTry({ next_try: at, attempt }, now) {
  const seconds = Math.ceil(at - now);
  return at ? t(seconds <= 0 ? "next.now" : "next.in", { attempt, seconds }) : "";
}

const textOf = ({ code, limit }) => [`problem.${code}.${limit}`, `problem.${code}`].find(known);

function whatIsWrong(problem, now) {
  const key = textOf(problem);
  if (!key) return problem.text ?? problem.code;
  return t(key, {
    ...problem,
    title: shortened(problem.title),
    cause: causeOf(problem),
    since: problem.since ? moment(problem.since, now) : "",
    until: problem.until ? moment(problem.until, now) : "",
    free: bytes(problem.free),
    used: bytes(problem.used),
    // Of what is used; else a number of meetings.
    limit: "used" in problem ? bytes(problem.limit) : count(problem.limit),
  });
}

// A title in a sentence: not so long that the rest is lost, and isolated, so
// that right-to-left marks in it don't turn the sentence round.
function shortened(title) {
  const letters = [...(title ?? "")];
  const short = letters.slice(0, 60).join("") + (letters.length > 60 ? "…" : "");
  return short && isolated(short);
}

export const causeOf = ({ cause }) => (cause ? t(`cause.${known(`cause.${cause}`) ? cause : "other"}`) : "");

export function whatToDo(problem) {
  const parts = [`${textOf(problem)}.do`, `cause.${problem.cause}.do`];
  return parts.filter(known).map((key) => t(key, problem)).join(t("sentence.gap"));
}
