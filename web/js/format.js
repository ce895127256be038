// Numbers and times as people read them, in the language of the page.

import { language, locale, t } from "./i18n.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NONE = "–";

// Making a formatter is slow and there are hundreds of numbers a second.
const formatters = new Map();
function formatter(Kind, options) {
  const key = Kind.name + locale() + JSON.stringify(options);
  if (!formatters.has(key)) formatters.set(key, new Kind(locale(), options));
  return formatters.get(key);
}

export const count = (value) => (value ?? null) === null ? NONE : formatter(Intl.NumberFormat, {}).format(value);

// Three digits at most: 9.87 MiB, 98.7 MiB, 987 MiB.
export function bytes(value) {
  if ((value ?? null) === null) return NONE;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${formatter(Intl.NumberFormat, { maximumSignificantDigits: 3 }).format(value)} ${UNITS[unit]}`;
}

export const rate = (value) => `${bytes(Math.round(value))}/s`;

export function percent(share, digits = 0) {
  if (!Number.isFinite(share)) return NONE;
  return formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(share);
}

const SPANS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const IN_CHINESE = { day: "天", hour: "小时", minute: "分钟", second: "秒" };

// The two largest units: 3 days 4 hr, 12 min 5 sec.
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  let rest = Math.max(0, Math.round(seconds));
  // -1, which is the last one, for no time at all.
  const first = SPANS.findIndex(([, span]) => rest >= span);
  const parts = [];
  for (const [unit, span] of SPANS.slice(first).slice(0, 2)) {
    const whole = Math.floor(rest / span);
    rest -= whole * span;
    if (whole > 0 || parts.length === 0) parts.push(withUnit(whole, unit));
  }
  return parts.join(" ");
}

function withUnit(value, unit) {
  if (language() === "zh") return `${value} ${IN_CHINESE[unit]}`;
  return formatter(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "short" }).format(value);
}

// Time left, in steps as coarse as the guess: it must not flicker.
export function timeLeft(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const step = seconds < 10 ? 1 : seconds < 55 ? 5 : 60;
  return t("time.left", { time: duration(Math.max(step, Math.round(seconds / step) * step)) });
}

export function ago(time, now) {
  if (!time) return t("time.never");
  const passed = Math.max(0, now - time);
  if (passed < 10) return t("time.now");
  const relative = formatter(Intl.RelativeTimeFormat, { style: "short" });
  if (passed < 60) return relative.format(-Math.floor(passed / 10) * 10, "second");
  const [unit, span] = SPANS.find(([, span]) => passed >= span);
  return relative.format(-Math.floor(passed / span), unit);
}

const TWO = "2-digit";
const MINUTES = { hour: TWO, minute: TWO, hourCycle: "h23" };
const SECONDS = { ...MINUTES, second: TWO };
// With the month in letters where its place is not the same everywhere.
const day = () => ({ year: "numeric", month: language() === "zh" ? TWO : "short", day: TWO });
const at = (time, options) => formatter(Intl.DateTimeFormat, options).format(time * 1000);

export const clock = (time, seconds = true) => at(time, seconds ? SECONDS : MINUTES);
export const date = (time) => at(time, day());
export const dateTime = (time) => (time ? at(time, { ...SECONDS, ...day() }) : NONE);

// A moment in a sentence: the clock alone while it is today.
export function moment(time, now) {
  const dayOf = (seconds) => new Date(seconds * 1000).toDateString();
  return dayOf(time) === dayOf(now) ? clock(time, false) : dateTime(time).slice(0, -3);
}
