// Uploads of this page, by meeting: they go on while views come and go.
// XMLHttpRequest, because fetch does not tell how much has been sent.

import { CallFailed, readSession } from "../api.js";
import { Pace } from "../pace.js";

const under = new Map(); // meeting id -> { name, sent, total, pace, cancel }

export const uploadOf = (id) => under.get(id) ?? null;

// Meetings whose package has arrived, while the last status still says that it is being
// received.
const received = new Set();

export function isReceived({ id, uploading }) {
  if (!uploading) received.delete(id);
  return received.has(id);
}

addEventListener("beforeunload", (event) => under.size > 0 && event.preventDefault());

// What is no ZIP at all is not worth the wait. (PK: also of an empty one.)
export async function isZip(file) {
  try {
    const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    return head[0] === 0x50 && head[1] === 0x4b;
  } catch {
    // A folder, say, can be dropped but not read.
    return false;
  }
}

// The view that shows uploads now; another language makes another view.
let changed = (_taken) => {};
export const showUploads = (show) => (changed = show);

// Resolves to true once the server has taken it, to false when cancelled. The view is
// given the meeting as it is then, which the next status has, too.
export function upload(id, file) {
  const request = new XMLHttpRequest();
  const entry = { name: file.name, sent: 0, total: file.size, pace: new Pace(), cancel: () => request.abort() };
  under.set(id, entry);
  return new Promise((taken, failed) => {
    const end = (settle, value, meeting = null) => {
      under.delete(id);
      if (meeting) received.add(id);
      settle(value);
      changed(meeting);
    };
    request.upload.addEventListener("progress", ({ loaded }) => {
      entry.sent = loaded;
      entry.pace.add(loaded, performance.now() / 1000);
      changed();
    });
    request.addEventListener("abort", () => end(taken, false));
    request.addEventListener("error", () => end(failed, new CallFailed(0, "")));
    request.addEventListener("load", () => {
      if (request.status === 200) return end(taken, true, request.response);
      if (request.status === 401) readSession().catch(() => {});
      end(failed, new CallFailed(request.status, request.response?.detail ?? ""));
    });
    request.open("PUT", `/api/v1/meetings/${encodeURIComponent(id)}/package`);
    request.responseType = "json";
    request.setRequestHeader("Content-Type", "application/zip");
    request.send(file);
    changed();
  });
}
