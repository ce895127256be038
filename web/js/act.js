// Carrying out what a button says: once at a time, and with a notice of what
// has come of it.

import { CallFailed } from "./api.js";
import { notify } from "./dialog.js";
import { half, t } from "./i18n.js";

export function sentenceOf(error) {
  if (!(error instanceof CallFailed)) throw error;
  if (error.status === 0) return t("error.gone");
  if (error.status === 401) return t("error.login");
  return half(error.detail) || t("error.status", { status: error.status });
}

// Resolves to the answer, or to null when it failed (and that was said).
// A busy button is not disabled: that would take the focus from it.
export async function act(button, work, done = null) {
  if (button.getAttribute("aria-disabled") === "true") return null;
  button.setAttribute("aria-disabled", "true");
  try {
    const answer = (await work()) ?? {};
    if (done) notify(done);
    return answer;
  } catch (error) {
    notify(sentenceOf(error), "error");
    return null;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
