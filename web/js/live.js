// What the server says of itself, kept up to date. `connection` is "connecting",
// "live" with an event stream, "polling" without one (503, or a proxy), and "away"
// while the server can't be reached: tried again more and more rarely, up to 5 s.
//
// Not read with EventSource, which says nothing of an answer's status.

import { call } from "./api.js";

// Halved at random: many pages must not come back all at once.
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 5000;
const CONNECT_PATIENCE_MS = 8000;
// The server sends at least a comment every 15 s.
const SILENCE_MS = 30_000;
// A stream that ends sooner has failed, or it would be asked for all the time.
const SOUND_MS = 10_000;
// After that long of polling, a stream is asked for again.
const POLLING_MS = 30_000;

const pause = (ms, signal) =>
  new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });

export class Live extends EventTarget {
  // `events`: path of the stream. `lists`: those in the status that change by
  // parts, name -> key field. `polls`: [{ event, path, every (ms) }], what to
  // ask for without a stream, "status" first; a `path()` of null: not now.
  constructor({ events, lists, polls }) {
    super();
    Object.assign(this, { events, lists, polls });
    this.connection = "connecting";
    this.status = null;
    this.step = 5;
    this.samples = [];
    this.heard = null;
    this.ahead = 0;
    this.round = null;
  }

  // The server's clock: countdowns and "ago" must not depend on the tablet's.
  now() {
    return Date.now() / 1000 + this.ahead;
  }

  // Also after rights have changed: a stream has those of its beginning.
  start() {
    this.stop();
    this.round = new AbortController();
    this.#run(this.round.signal);
  }

  stop() {
    this.round?.abort();
    this.round = null;
  }

  // For a tab that comes back: what it shows may be old, its stream cut.
  wake() {
    if (this.round === null || this.connection !== "live" || Date.now() - this.heard * 1000 > SOUND_MS) this.start();
  }

  async #run(signal) {
    let failures = 0;
    while (!signal.aborted) {
      const began = Date.now();
      const outcome = await this.#stream(signal);
      if (signal.aborted) return;
      if (outcome !== "ended" && (await this.#poll(signal))) {
        failures = 0;
        continue;
      }
      if (signal.aborted) return;
      // A stream that ended may be a restart of the stream alone: the page
      // is called stale only when the next attempt fails.
      if (outcome !== "ended") this.#connection("away");
      failures = outcome === "ended" && Date.now() - began > SOUND_MS ? 0 : failures + 1;
      const wait = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 1.5 ** (failures - 1));
      await pause(wait * (0.5 + Math.random() / 2), signal);
    }
  }

  // "ended": was open. "none": answered, but with no stream. "failed": no answer.
  async #stream(signal) {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    signal.addEventListener("abort", abort, { once: true });
    let timer = setTimeout(abort, CONNECT_PATIENCE_MS);
    let open = false;
    try {
      const headers = { Accept: "text/event-stream" };
      const response = await fetch(this.events, { signal: attempt.signal, cache: "no-store", headers });
      if (!response.ok || !response.body) return "none";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = eventParser((event, data) => {
        if (signal.aborted) return;
        open ||= event === "status";
        this.#take(event, data);
        if (event === "status") this.#connection("live");
      });
      for (;;) {
        clearTimeout(timer);
        timer = setTimeout(abort, SILENCE_MS);
        const { value, done } = await reader.read();
        if (done) return open ? "ended" : "failed";
        parse(value);
      }
    } catch {
      return open ? "ended" : "failed";
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      abort();
    }
  }

  // True when it is time to ask for a stream again, false when nobody answers.
  async #poll(signal) {
    const began = Date.now();
    const due = new Map();
    while (Date.now() - began < POLLING_MS) {
      for (const poll of this.polls) {
        const path = typeof poll.path === "function" ? poll.path() : poll.path;
        if (path === null || Date.now() < (due.get(poll) ?? 0)) continue;
        due.set(poll, Date.now() + poll.every - 50);
        try {
          const answer = await call("GET", path);
          if (signal.aborted) return true;
          this.#take(poll.event, answer);
        } catch {
          if (poll.event === "status") return false;
        }
      }
      this.#connection("polling");
      await pause(Math.min(...this.polls.map((poll) => poll.every)), signal);
      if (signal.aborted) return true;
    }
    return true;
  }

  #take(event, message) {
    this.heard = Date.now() / 1000;
    const take = TAKERS[event];
    const detail = take ? take.call(this, message) : message;
    this.#tell(event === "change" ? "status" : event, detail);
  }

  #connection(connection) {
    if (this.connection === connection) return;
    this.connection = connection;
    this.#tell("connection", connection);
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}

const TAKERS = {
  status(status) {
    this.status = status;
    setClock(this, status);
    return status;
  },

  change({ set = {}, lists = {} }) {
    if (this.status === null) return {};
    Object.assign(this.status, set);
    setClock(this, set);
    for (const [name, { changed = [], removed = [] }] of Object.entries(lists)) {
      this.status[name] = merged(this.status[name] ?? [], this.lists[name], changed, removed);
    }
    return set;
  },

  traffic({ step, samples }) {
    this.step = step;
    this.samples = samples;
    return samples;
  },

  sample(sample) {
    const oldest = sample[0] - 15 * 60;
    this.samples = [...this.samples.filter(([time]) => time > oldest && time < sample[0]), sample];
    return sample;
  },
};

function setClock(live, { now }) {
  if (typeof now === "number") live.ahead = now - Date.now() / 1000;
}

function merged(list, key, changed, removed) {
  const items = new Map(list.map((item) => [item[key], item]));
  for (const gone of removed) items.delete(gone);
  for (const item of changed) items.set(item[key], item);
  return [...items.values()];
}

// Server-sent events (HTML standard, 9.2.6) without id and retry; data is JSON.
function eventParser(tell) {
  let rest = "";
  return (chunk) => {
    const blocks = (rest + chunk).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const field = (name) => [...block.matchAll(new RegExp(`^${name}: ?(.*)$`, "gm"))].map(([, value]) => value).join("\n");
      if (field("data")) tell(field("event") || "message", JSON.parse(field("data")));
    }
  };
}
