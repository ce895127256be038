// What tests know of the pages: their views, and by which marks in the
// document things are found. Words are looked for only where they matter.

import assert from "node:assert/strict";

export const VIEWS = ["overview", "meetings", "traffic", "config", "logs"];

/** The node's page at one of its views; `how`: host, locale, width, height, dark. */
export async function openPanel(stage, node, { view = "overview", host, ...how } = {}) {
  const page = await stage.open(node.url(`/static/index.html#/${view}`, host), how);
  await untilLive(page);
  await untilOn(page, view);
  return page;
}

/** Until it shows what its server says now. */
export async function untilLive(page) {
  await page.locator("body[data-connection=live]").waitFor();
  await untilGone(page.locator(".skeleton"));
}

export async function untilOn(page, view) {
  await page.locator(`body[data-view=${view}] #view h1`).waitFor();
}

/** As a visitor does, by the list of views. */
export async function go(page, view) {
  await page.locator(`#views [data-view=${view}]`).click();
  await untilOn(page, view);
}

export const untilGone = (locator) => locator.first().waitFor({ state: "hidden" });

/** Until everything is well, and said to be. */
export const untilWell = (page) => page.locator(".health[data-tone=good]").waitFor();

export const problem = (page, code) => page.locator(`#problems [data-problem=${code}]`);

export const row = (page, id) => page.locator(`[data-meeting="${id}"]`);

export const untilState = (page, id, state) => page.locator(`[data-meeting="${id}"][data-state=${state}]`).waitFor();

/** Says yes or no to the question that is asked; fails where none is. */
export async function answer(page, word) {
  const dialog = page.getByRole("dialog");
  await dialog.locator(`[data-answer=${word}]`).click();
  await untilGone(dialog);
}

/** Counts the requests of a page whose method and path look like this. */
export function counted(page, pattern) {
  const seen = { count: 0 };
  page.on("request", (request) => {
    if (pattern.test(`${request.method()} ${new URL(request.url()).pathname}`)) seen.count += 1;
  });
  return seen;
}

/** What a stranger's page must not offer. */
export async function assertNoButtons(page) {
  const offered = page.locator("#start, #stop, [data-action=sync], [data-action=remove]").filter({ visible: true });
  assert.deepEqual(await offered.allInnerTexts(), []);
}

/** The control of a setting, and all that stands about it. */
export const setting = (page, key) => page.locator(`[data-input="${key}"]`);
export const field = (page, key) => page.locator(`[data-setting="${key}"]`);
export const wrong = (page, key) => field(page, key).locator(".wrong");

/** Shows the settings that few people need. */
export const unfold = (page) => page.locator(".advanced").evaluateAll((all) => all.forEach((one) => (one.open = true)));

/** Saves, also what the page warns of. */
export async function save(page) {
  await page.locator("#save").click();
  const dialog = page.getByRole("dialog");
  const asked = dialog.waitFor().then(() => true);
  if (await Promise.race([asked, untilGone(page.locator("#save-bar"))])) await answer(page, "yes");
}
