// Files that were chosen to be sent to nodes, and their uploads to the main server. They are
// the page's and not a view's: they stay, and go on, while views come and go. What is there
// already is not uploaded again when an upload that broke off is repeated.
// XMLHttpRequest, because fetch does not tell how much has been sent.

import { CallFailed, readSession } from "../api.js";
import { t } from "../i18n.js";
import { Pace } from "../pace.js";
import { checkName } from "./file-names.js";

export const PATH = "/api/v1/dispatch";
export const pathOf = (task) => `${PATH}/${encodeURIComponent(task)}`;
export const MAX_FILES = 20_000;
// At a time: many small files are mostly waiting.
const WORKERS = 3;

const files = new Map(); // name -> { name, file, sha256, sent }
let run = null; // the uploads that are under way

addEventListener("beforeunload", (event) => run && event.preventDefault());

// The view that shows them now; another language makes another view.
let changed = () => {};
let version = 0; // of what was chosen
export const showOutbox = (show) => (changed = show);

function listChanged() {
  version += 1;
  changed();
}

const sizeOf = (all) => all.reduce((sum, { file }) => sum + file.size, 0);

export const outbox = {
  get count() {
    return files.size;
  },

  // Another one whenever the list of files is another.
  get version() {
    return version;
  },

  // Null while nothing is uploaded: { sent, total, done, count, pace, isComplete, stop() }.
  get run() {
    return run;
  },

  // `list`: { name, file }. Another one of the same name takes the place of the first.
  // Returns how many there was no room for.
  add(list) {
    let left = 0;
    for (const { name, file } of list) {
      if (files.size >= MAX_FILES && !files.has(name)) left += 1;
      else files.set(name, { name, file, sha256: null, sent: 0 });
    }
    listChanged();
    return left;
  },

  // What stands at the top: files, and folders with all that is in them.
  top() {
    const top = new Map();
    for (const entry of files.values()) {
      const slash = entry.name.indexOf("/");
      const name = slash < 0 ? entry.name : entry.name.slice(0, slash + 1);
      const one = top.get(name) ?? { name, count: 0, size: 0 };
      top.set(name, { name, count: one.count + 1, size: one.size + entry.file.size });
    }
    return [...top.values()];
  },

  size: () => sizeOf([...files.values()]),

  // A file, or a folder with all that is in it (its name ends with a slash).
  remove(top) {
    for (const name of [...files.keys()]) if (name === top || (top.endsWith("/") && name.startsWith(top))) files.delete(name);
    listChanged();
  },

  clear() {
    files.clear();
    listChanged();
  },

  // What is wrong with the names, in words; "" for nothing.
  complaint() {
    const seen = new Map();
    for (const name of files.keys()) {
      const why = checkName(name);
      if (why) return t(`send.wrong.${why}`, { name });
      const other = seen.get(name.toLowerCase());
      if (other) return t("send.wrong.same", { name, other });
      seen.set(name.toLowerCase(), name);
    }
    return "";
  },

  // The server has lost it, or never had it: it is uploaded again.
  forget(detail) {
    for (const entry of files.values()) if (entry.sha256 && detail.includes(entry.sha256)) entry.sha256 = null;
  },

  // Uploads what is not there yet, and then has `finish` make a task of all. Resolves to what
  // that does, or to null when it was stopped; throws what the first failure was.
  async upload(finish) {
    const all = [...files.values()];
    const waiting = all.filter(({ sha256 }) => sha256 === null);
    const here = all.filter(({ sha256 }) => sha256 !== null);
    const requests = new Set();
    let failure = null;
    const stop = (why) => {
      failure ??= why;
      waiting.length = 0;
      requests.forEach((request) => request.abort());
    };
    const now = { sent: sizeOf(here), total: sizeOf(all), done: here.length, count: all.length, pace: new Pace(), isComplete: false, stop: () => stop("stopped") };
    run = now;
    changed();

    async function work() {
      while (waiting.length > 0) {
        const entry = waiting.shift();
        try {
          await put(entry, requests, (grown) => {
            now.sent += grown;
            now.pace.add(now.sent, performance.now() / 1000);
            changed();
          });
          now.done += 1;
        } catch (error) {
          stop(error);
        }
      }
    }

    try {
      await Promise.all(Array.from({ length: WORKERS }, work));
      if (failure === "stopped") return null;
      if (failure !== null) throw failure;
      now.isComplete = true;
      changed();
      return await finish(all.map(({ name, sha256 }) => ({ name, sha256 })));
    } finally {
      run = null;
      changed();
    }
  },
};

// One file. `grown(bytes)`: of what was sent meanwhile.
function put(entry, requests, grown) {
  const { file } = entry;
  const request = new XMLHttpRequest();
  requests.add(request);
  entry.sent = 0;
  const sent = (bytes) => {
    grown(bytes - entry.sent);
    entry.sent = bytes;
  };
  return new Promise((done, failed) => {
    request.upload.addEventListener("progress", ({ loaded }) => sent(Math.min(loaded, file.size)));
    request.addEventListener("abort", () => failed(new CallFailed(0, "")));
    request.addEventListener("error", async () => failed(new CallFailed(0, (await isReadable(file)) ? "" : t("send.unreadable", { name: entry.name }))));
    request.addEventListener("load", () => {
      const { status, response } = request;
      if (status !== 201) {
        if (status === 401) readSession().catch(() => {});
        return failed(new CallFailed(status, typeof response?.detail === "string" ? response.detail : ""));
      }
      if (response.size !== file.size) return failed(new CallFailed(0, t("send.unreadable", { name: entry.name })));
      entry.sha256 = response.sha256;
      sent(file.size);
      done();
    });
    request.open("PUT", `${PATH}/uploads`);
    request.responseType = "json";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(file);
  }).finally(() => requests.delete(request));
}

// It may have been changed or removed since it was chosen.
async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
