// Waiting for conditions; nothing here sleeps for a time that was guessed.

// Far above what anything takes on a busy machine, so that reaching it means
// that the condition does not come true.
export const BOUND_MS = 20_000;
const LOOK_EVERY_MS = 50;

/**
 * What `condition` returns, once that is true enough; asked again until then.
 * A condition that throws is not true yet: what it threw last is in the message.
 */
export async function until(what, condition) {
  const end = Date.now() + BOUND_MS;
  let last;
  do {
    try {
      last = await condition();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  } while (Date.now() < end);
  const reason = last instanceof Error ? last.message : JSON.stringify(last);
  throw new Error(`waited ${BOUND_MS / 1000} s in vain until ${what}; last: ${reason}`);
}
