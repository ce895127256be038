// Every view in every dress: both languages, light and dark, wide and narrow.

import assert from "node:assert/strict";

import { STRANGER, assertAccessible, assertNoSidewaysScroll, loadCost, paintTime } from "./support/browser.mjs";
import * as mainPage from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { bigZip, zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });
const LONG = "A".repeat(120);
const TINY = 1 << 20;

const DRESSES = {
  "wide, light, English": { locale: "en-US" },
  "wide, dark, Chinese": { locale: "zh-CN", dark: true },
  "360 px, light, Chinese": { locale: "zh-CN", width: 360, height: 740 },
  "360 px, dark, English": { locale: "en-US", width: 360, height: 740, dark: true },
};

/** A node with a meeting in each state, one of them under an unwieldy title. */
async function busyNode(stage) {
  const main = await stage.slowMain();
  const node = await stage.node(main, { cleanup: { enabled: false } });
  main.activate("ended", "第一季度总结会", PACKAGE);
  await node.untilSynced("ended");
  main.end("ended");
  main.activate("ready", LONG, PACKAGE);
  main.activate("failing", "没有会议包 No package");
  main.activate("pulling", "Board", bigZip(4 << 20)).allow(1 << 20);
  return node;
}

/** A main server with a meeting in each state, and nodes that can be reached and can't. */
async function busyMain(stage) {
  const main = await stage.main();
  await main.activate("ended", "第一季度总结会", PACKAGE);
  await main.finish("ended");
  await main.create("waiting", LONG, PACKAGE);
  await main.activate("running", "Board", PACKAGE);
  // Without a node that has it, the main server sends it itself.
  await main.download("running");
  const node = await stage.node(main, { storage: { maxSize: TINY } });
  await main.untilServedBy("running", "node-test");
  await main.download("running");
  await main.register(LONG, "127.0.0.1:9");
  await main.activate("bare", "没有会议包 No package");
  // More than its only node has room for: until it is announced all the same.
  await main.activate("starting", "董事会", bigZip(2 * TINY));
  return main;
}

async function untilStates(page, states) {
  for (const [id, state] of Object.entries(states)) await panel.untilState(page, id, state);
}

async function assertPresentable(stage, page, name) {
  await panel.untilGone(page.locator(".skeleton"));
  await stage.look(page, name);
  await assertNoSidewaysScroll(page);
  await assertAccessible(page);
}

for (const [name, dress] of Object.entries(DRESSES)) {
  test(`every view is presentable: ${name}`, async (stage) => {
    const node = await busyNode(stage);
    const page = await panel.openPanel(stage, node, { view: "meetings", ...dress });
    await untilStates(page, { ended: "inactive", ready: "synced", failing: "failing", pulling: "pulling" });
    for (const view of panel.VIEWS) {
      await panel.go(page, view);
      await assertPresentable(stage, page, `${view}, ${name}`);
    }
    await panel.go(page, "overview");
    await page.locator("#stop").click();
    await assertPresentable(stage, page, `question, ${name}`);
  });

  test(`logging in is presentable: ${name}`, async (stage) => {
    const node = await stage.node(await stage.slowMain());
    const page = await panel.openPanel(stage, node, { view: "config", host: STRANGER, ...dress });
    await page.locator("#token").waitFor();
    await assertPresentable(stage, page, `login, ${name}`);
  });

  test(`every view of the main server is presentable: ${name}`, async (stage) => {
    const main = await busyMain(stage);
    const page = await mainPage.openMain(stage, main, { view: "meetings", ...dress });
    const presentable = (what) => assertPresentable(stage, page, `main server, ${what}, ${name}`);
    await untilStates(page, { ended: "ended", waiting: "waiting", running: "lacking", bare: "bare", starting: "starting" });
    for (const details of await page.locator("[data-meeting] [data-action=details]").all()) await details.click();
    for (const view of mainPage.VIEWS) {
      await panel.go(page, view);
      await presentable(view);
    }
    await panel.go(page, "meetings");
    await mainPage.press(panel.row(page, "running"), "delete");
    await presentable("question");
    await panel.answer(page, "no");
    await page.locator("#create").click();
    await mainPage.fillIn(page, { title: "", id: "m/1" });
    await page.getByRole("dialog").locator("[data-answer=yes]").click();
    await presentable("new meeting");
    await panel.answer(page, "no");
    await panel.go(page, "nodes");
    await page.locator("#key-make").click();
    await page.getByRole("dialog").locator("[data-answer=yes]").click();
    await page.locator("#key-text").waitFor();
    await presentable("key");
  });

  test(`an empty main server, and logging in there, are presentable: ${name}`, async (stage) => {
    const main = await stage.main();
    const page = await mainPage.openMain(stage, main, dress);
    for (const view of mainPage.VIEWS) {
      await panel.go(page, view);
      await assertPresentable(stage, page, `empty main server, ${view}, ${name}`);
    }
    const stranger = await mainPage.openAsStranger(stage, main, { host: STRANGER, ...dress });
    await assertPresentable(stage, stranger, `main server, login, ${name}`);
  });
}

test("the dark dress is dark and the light one light", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const brightness = async (dark) => {
    const page = await panel.openPanel(stage, node, { dark });
    const color = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    return Math.max(...color.match(/\d+/g).slice(0, 3).map(Number));
  };
  assert.ok((await brightness(true)) < 64);
  assert.ok((await brightness(false)) > 192);
});

async function assertCheap(stage, page, what) {
  const painted = await paintTime(page);
  const { requests, bytes } = await loadCost(page);
  stage.note(`${what}: first paint after ${Math.round(painted)} ms; ${requests} requests, ${bytes} bytes`);
  assert.ok(bytes < 80 << 10, `${bytes} bytes`);
  assert.ok(requests < 50, `${requests} requests`);
}

test("a first visit costs little", async (stage) => {
  const main = await stage.main();
  const node = await stage.node(main);
  await assertCheap(stage, await panel.openPanel(stage, node), "node");
  await assertCheap(stage, await mainPage.openMain(stage, main), "main server");
});

for (const locale of ["en-US", "zh-CN"]) {
  test(`a tablet shows tiles in even rows and a meeting in a few lines: ${locale}`, async (stage) => {
    const node = await busyNode(stage);
    const page = await panel.openPanel(stage, node, { locale, width: 768, height: 1024 });
    const tiles = await page.locator(".tiles > li").evaluateAll((all) => all.map((tile) => tile.getBoundingClientRect().top));
    const rows = [...new Set(tiles)].map((top) => tiles.filter((other) => other === top).length);
    assert.equal(new Set(rows).size, 1, `${rows}`);
    await stage.look(page, `overview 768 px ${locale}`);
    await panel.go(page, "meetings");
    await panel.untilState(page, "ended", "inactive");
    const { height } = await panel.row(page, "ended").boundingBox();
    assert.ok(height < 140, `${height} px`);
    await stage.look(page, `meetings 768 px ${locale}`);
    await assertNoSidewaysScroll(page);
    const main = await stage.main();
    await main.activate("running", "Board", PACKAGE);
    await main.register("hall", "127.0.0.1:9");
    const there = await mainPage.openMain(stage, main, { view: "nodes", locale, width: 768, height: 1024 });
    await stage.look(there, `main server nodes 768 px ${locale}`);
    await panel.go(there, "meetings");
    await stage.look(there, `main server meetings 768 px ${locale}`);
    await assertNoSidewaysScroll(there);
  });
}
