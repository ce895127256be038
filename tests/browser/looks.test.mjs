// Every view in every dress: both languages, light and dark, wide and narrow.

import assert from "node:assert/strict";

import { STRANGER, assertAccessible, assertNoSidewaysScroll, loadCost, paintTime } from "./support/browser.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { bigZip, zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });
const LONG = "A".repeat(120);

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

async function untilAllStates(page) {
  for (const [id, state] of [["ended", "inactive"], ["ready", "synced"], ["failing", "failing"], ["pulling", "pulling"]]) {
    await panel.untilState(page, id, state);
  }
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
    await untilAllStates(page);
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

test("a first visit costs little", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const page = await panel.openPanel(stage, node);
  const painted = await paintTime(page);
  const { requests, bytes } = await loadCost(page);
  stage.note(`first paint after ${Math.round(painted)} ms; ${requests} requests, ${bytes} bytes`);
  assert.ok(bytes < 80 << 10, `${bytes} bytes`);
  assert.ok(requests < 50, `${requests} requests`);
});
