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
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  const options = { maximumFractionDigits: digits };
  return `${formatter(Intl.NumberFormat, options).format(value)} ${UNITS[unit]}`;
}

export const rate = (value) => (value === null ? NONE : `${bytes(Math.round(value))}/s`);

export function percent(share, digits = 0) {
  if (share === null || !Number.isFinite(share)) return NONE;
  return formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(share);
}

const SPANS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

// The two largest units: 3 days 4 hr, 12 min 5 sec.
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return NONE;
  let rest = Math.max(0, Math.round(seconds));
  const first = Math.max(0, SPANS.findIndex(([, span]) => rest >= span));
  const from = rest === 0 ? SPANS.length - 1 : first;
  const parts = [];
  for (const [unit, span] of SPANS.slice(from, from + 2)) {
    const whole = Math.floor(rest / span);
    rest -= whole * span;
    if (whole > 0 || parts.length === 0) parts.push(withUnit(whole, unit));
  }
  return parts.join(language() === "zh" ? "" : " ");
}

function withUnit(value, unit) {
  const unitDisplay = language() === "zh" ? "long" : "short";
  return formatter(Intl.NumberFormat, { style: "unit", unit, unitDisplay }).format(value);
}

// Time left, in steps as coarse as the guess: it must not flicker.
export function timeLeft(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  const step = seconds < 10 ? 1 : seconds < 60 ? 5 : seconds < 600 ? 15 : 60;
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

export function clock(time, seconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" };
  return formatter(Intl.DateTimeFormat, options).format(time * 1000);
}

export function dateTime(time) {
  if (!time) return NONE;
  const two = "2-digit";
  const options = { year: "numeric", month: two, day: two, hour: two, minute: two, second: two, hourCycle: "h23" };
  return formatter(Intl.DateTimeFormat, options).format(time * 1000);
}

// A moment in a sentence: the clock alone while it is today.
export function moment(time, now) {
  const day = (seconds) => new Date(seconds * 1000).toDateString();
  return day(time) === day(now) ? clock(time, false) : dateTime(time).slice(0, -3);
}
