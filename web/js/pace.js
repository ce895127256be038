// Speed and time left of a transfer, smoothed: chunks come in bursts and a
// number that jumps about tells nobody anything.

import { bytes, percent, rate, timeLeft } from "./format.js";
import { t } from "./i18n.js";
import { listed } from "./texts/shared.js";

const MEMORY_S = 4;

export class Pace {
  #last = null;
  #rate = null;

  add(bytes, now_s) {
    const last = this.#last;
    // Fewer bytes than before: another attempt has begun from the start.
    if (last === null || bytes < last.bytes) {
      this.#last = { bytes, at: now_s };
      this.#rate = null;
      return;
    }
    const passed = now_s - last.at;
    if (passed < 0.5) return;
    const rate = (bytes - last.bytes) / passed;
    const weight = 1 - Math.exp(-passed / MEMORY_S);
    this.#rate = this.#rate === null ? rate : this.#rate + weight * (rate - this.#rate);
    this.#last = { bytes, at: now_s };
  }

  // Bytes a second; null until two moments are known.
  get rate() {
    return this.#rate;
  }

  secondsLeft(total) {
    if (!total || !this.#rate || this.#last === null) return null;
    return Math.max(0, total - this.#last.bytes) / this.#rate;
  }
}

// "42% · 12.6 MiB of 30 MiB · 3.5 MiB/s · about 5 s left"
export function transfer(done, total, pace) {
  return listed(
    total ? `${percent(done / total)} · ${t("of", { used: bytes(done), limit: bytes(total) })}` : bytes(done),
    pace.rate === null ? "" : rate(pace.rate),
    timeLeft(pace.secondsLeft(total)),
  );
}
