// Files from the main server's page to nodes: chosen and dropped, uploaded, on their way, failed,
// taken back.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { assertAccessible, assertNoSidewaysScroll, drop, slowUploads } from "./support/browser.mjs";
import { notice, openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const tasks = (page) => page.locator("[data-task]");
const nodeOf = (page, id) => page.locator(`[data-details] [data-node="${id}"]`);
const press = (page, action) => page.locator(`#view [data-action=${action}]`).filter({ visible: true }).first().click();
const send = (page) => page.locator("#view [data-action=send]").click();
const known = (page, id) => page.locator("#send-to option", { hasText: id }).waitFor({ state: "attached" });
const chooseAll = async (page) => {
  await page.locator("#send-to").selectOption("all");
  await page.locator("#view [data-action=add]").click();
};
const dropped = (page, name, text) => drop(page.locator("#send-drop"), { name, bytes: Buffer.from(text) });

test("files and folders are sent, one that was away gets them when it returns, and all give them back", async (stage) => {
  const main = await stage.main();
  const here = await stage.node(main, { nodeId: "here" });
  const away = await stage.node(main, { nodeId: "away" });
  const page = await openMain(stage, main, { view: "files", locale: "en-US" });
  await page.getByText("No files sent yet").waitFor();
  await known(page, "here");
  await known(page, "away");
  await away.kill();
  const slides = join(main.folder, "slides");
  mkdirSync(join(slides, "day 2"), { recursive: true });
  for (const name of ["a.txt", "day 2/b.txt", ".hidden"]) writeFileSync(join(slides, name), name);
  await page.locator("#send-pick-folder").setInputFiles(slides);
  await page.locator('[data-file="slides/"]', { hasText: "2 files" }).waitFor();
  await page.getByText("1 hidden file left out").waitFor();
  await dropped(page, "agenda.txt", "1. Welcome");
  await page.getByText("3 files, 26 B").waitFor();
  await chooseAll(page);
  await stage.look(page, "main server, files chosen");
  await send(page);
  await until("one node has them", async () =>
    /^slides, agenda\.txt[^]*3 files · 26 B · To all nodes[^]*Sending[^]*1 of 2 nodes received all files/.test(await tasks(page).innerText()));
  assert.equal(await page.locator("[data-file]").count(), 0, "the next ones begin empty");
  await nodeOf(page, "away").getByText(/Waiting|Away/).waitFor();
  await stage.look(page, "main server, files on their way");
  const id = await tasks(page).getAttribute("data-task");
  const atNode = (name) => fetch(here.url(`/api/v1/files/${id}/${name}`));
  assert.equal(await (await atNode("slides/day%202/b.txt")).text(), "day 2/b.txt");
  await away.start();
  await page.locator("[data-task][data-state=completed]").waitFor();
  await until("both have them", async () => (await page.locator("[data-details] [data-state=done]").count()) === 2);
  await page.locator("[data-details] summary", { hasText: "Files of this task" }).click();
  await page.locator("[data-details]").getByText("slides/day 2/b.txt").waitFor();
  await press(page, "remove");
  await page.getByRole("dialog").getByText("drop folder").waitFor();
  await panel.answer(page, "yes");
  await tasks(page).getByText("Removed from the nodes at").waitFor();
  await page.locator("[data-details] [data-state=removed]").first().waitFor();
  assert.equal((await atNode("agenda.txt")).status, 404);
  await stage.look(page, "main server, files removed");
});

test("what a node can't have is named with the reason, and sending is tried again and cancelled", async (stage) => {
  const main = await stage.main();
  await stage.node(main, { nodeId: "small", dispatch: { maxSize: 1 << 20 } });
  await stage.node(main, { nodeId: "slow", network: { bandwidth: 150_000 } });
  const page = await openMain(stage, main, { view: "files", locale: "en-US" });
  await known(page, "small");
  await known(page, "slow");
  await dropped(page, "large.bin", "x".repeat(1_500_000));
  await chooseAll(page);
  await send(page);
  const small = nodeOf(page, "small");
  await until("it says why", async () => /Failed[^]*1 file missing[^]*large\.bin: ?\S+/.test(await small.innerText()));
  await nodeOf(page, "slow").getByText(/[1-9]\d?% · /).waitFor();
  await page.locator("[data-filter=failed]", { hasText: "1" }).click();
  await panel.untilGone(nodeOf(page, "slow"));
  await stage.look(page, "main server, a file that failed");
  await press(page, "retry");
  await notice(page, "good").getByText("try again").waitFor();
  await press(page, "cancel");
  await panel.answer(page, "yes");
  await page.locator("[data-task][data-state=cancelled]").waitFor();
});

test("an upload that is stopped or breaks off is repeated without what is there already", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await nodes.beat("old");
  const page = await openMain(stage, main, { view: "files", locale: "en-US" });
  await known(page, "old");
  const pace = await slowUploads(page, 256 << 10);
  await dropped(page, "large.bin", "x".repeat(4 << 20));
  await chooseAll(page);
  await send(page);
  await page.locator("#send-progress").getByText(/[1-9]\d?% · /).waitFor();
  await stage.look(page, "main server, files under way");
  await page.locator("#language").click();
  await page.locator("#send-progress").getByText(/[1-9]\d?% · /).waitFor();
  await page.locator("#language").click();
  await press(page, "stop-upload");
  await notice(page, "good").getByText("nothing was sent").waitFor();
  await pace.lift();
  await press(page, "remove-file");
  stage.allow(/ERR_FAILED/);
  let uploads = 0;
  const first = page.waitForResponse((response) => response.url().endsWith("/uploads") && response.status() === 201);
  await page.route("**/dispatch/uploads", async (route) => {
    uploads += 1;
    if (uploads !== 2) return route.continue();
    await (await first).finished();
    return route.abort();
  });
  await dropped(page, "one.txt", "1");
  await dropped(page, "two.txt", "2");
  await chooseAll(page);
  await send(page);
  await page.locator("#send-wrong").getByText("broke off").waitFor();
  assert.equal(await tasks(page).count(), 0);
  await stage.look(page, "main server, an upload that broke off");
  await send(page);
  await tasks(page).getByText("2 files").waitFor();
  assert.equal(uploads, 3);
});

test("what can't be sent is refused beside its field, in both languages on a phone", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  stage.allow(/status of 400/);
  for (const locale of ["zh-CN", "en-US"]) {
    await nodes.beat("old", { site: "East" });
    const page = await openMain(stage, main, { view: "files", locale, width: 360, height: 740 });
    await known(page, "old");
    await send(page);
    const wrong = (field) => page.locator(`#send-${field}-wrong .icon`);
    for (const field of ["files", "to"]) await wrong(field).waitFor();
    await dropped(page, "con.txt", "x");
    await page.locator("#send-files-wrong").getByText("Windows").waitFor();
    await press(page, "remove-file");
    await dropped(page, "a <b>.txt", "x");
    await page.locator("#send-files-wrong").getByText("a <b>.txt").waitFor();
    await press(page, "remove-file");
    await dropped(page, "good.txt", "x");
    await panel.untilGone(wrong("files"));
    await page.locator("#send-to").selectOption({ label: "old" });
    await page.locator("#view summary").first().click();
    await page.locator("#send-title").fill("移".repeat(67));
    await send(page);
    await wrong("title").waitFor();
    await page.locator("#send-title").fill("");
    // It is removed by somebody else meanwhile.
    await fetch(main.url("/api/v1/fleet/nodes/old"), { method: "DELETE" });
    await send(page);
    await page.locator("#send-to-wrong").getByText("old").waitFor();
    await assertNoSidewaysScroll(page);
    await assertAccessible(page);
    await stage.look(page, `main server, files on a phone ${locale}`);
  }
});
