// What tests know of the main server's page: its views, and by which marks in
// the document things are found that a node's panel has not (see panel.mjs).

import { untilGone, untilLive, untilOn } from "./panel.mjs";

export const VIEWS = ["overview", "meetings", "nodes", "relay", "messages", "files", "work", "traffic", "history"];

/** The page at one of its views; `how`: host, locale, width, height, dark. */
export async function openMain(stage, main, { view = "overview", host, ...how } = {}) {
  const page = await stage.open(main.url(`/#/${view}`, host), how);
  await untilLive(page);
  await untilOn(page, view);
  return page;
}

/** The same to a stranger, who sees nothing but the way to log in. */
export async function openAsStranger(stage, main, { view = "overview", host, ...how }) {
  const page = await stage.open(main.url(`/#/${view}`, host), how);
  await page.locator("#token").waitFor();
  return page;
}

/** Fills in the dialog for a new meeting: `title`, and where wanted `id`, `time` and `file`. */
export async function fillIn(page, { title, id, time, file }) {
  const dialog = page.getByRole("dialog");
  await dialog.locator("#new-title").fill(title);
  if (time) await dialog.locator("#new-time").fill(time);
  if (file) await dialog.locator("#new-package").setInputFiles(asFile(file));
  if (id) {
    await dialog.locator("summary").click();
    await dialog.locator("#new-id").fill(id);
  }
}

const asFile = ({ name, bytes }) => ({ name, mimeType: "application/zip", buffer: bytes });

/** Presses one of a meeting's buttons. */
export const press = (row, action) => row.locator(`[data-action=${action}]`).click();

/** Chooses a file for a meeting by its button, as a person does. */
export async function pick(page, row, file) {
  const chooser = page.waitForEvent("filechooser");
  await press(row, "upload");
  await (await chooser).setFiles(asFile(file));
}

/** One of the figures of a row, tile or list. */
export const fact = (place, name) => place.locator(`[data-fact=${name}]`);

export const nodeRow = (page, id) => page.locator(`[data-node="${id}"]`);

export const untilNode = (page, id, state) => page.locator(`[data-node="${id}"][data-state=${state}]`).waitFor();

/** What the page says of an action: `kind` is good or error. */
export const notice = (page, kind) => page.locator(`#notices [data-tone=${kind}]`);

/** Has the nodes' key made; resolves to what is shown of it. */
export async function makeKey(page) {
  const dialog = page.getByRole("dialog");
  await page.locator("#key-make").click();
  await dialog.locator("[data-answer=yes]").click();
  const key = await page.locator("#key-text").innerText();
  await dialog.locator("[data-answer=yes]").click();
  await untilGone(dialog);
  return key;
}
