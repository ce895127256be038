// What the main server's views keep to on a phone, on a wall and with many entries.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { VIEWS, nodeRow, openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });
const FULL = { id: "m1", cause: "no_room", text: "the disk is full" };

/** A main server with a running meeting and `count` nodes at two sites; the third one can't pull. */
async function fleet(stage, count) {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await main.activate("m1", "Board", PACKAGE);
  for (let n = 1; n <= count; n += 1) {
    const holds = n === 3 ? { failed: [FULL] } : { has: { m1: PACKAGE } };
    await nodes.beat(`node-${n}`, { site: n % 2 ? "East" : "West", ...holds });
  }
  return { main, nodes };
}

const shown = (page) => page.locator("#nodes > li").evaluateAll((all) => all.map((one) => one.dataset.node));

test("a node that can't pull stands first with the reason, and is found by filter and order", async (stage) => {
  const { main } = await fleet(stage, 12);
  const page = await openMain(stage, main, { view: "nodes", locale: "en-US" });
  await page.locator('[data-node="node-3"][data-state=failing]').waitFor();
  await until("the others were reached", async () => (await page.locator("#nodes [data-state=reachable]").count()) === 11);
  assert.deepEqual((await shown(page)).slice(0, 3), ["node-3", "node-1", "node-2"], "numbers in names are numbers");
  assert.match(await nodeRow(page, "node-3").innerText(), /“\P{L}*Board\P{L}*”: there is not enough room: the disk is full/u);
  for (const [filter, left] of [["trouble", ["node-3"]], ["lacking", ["node-3"]], ["drained", []]]) {
    await page.locator(`[data-filter=${filter}]`).click();
    assert.deepEqual(await shown(page), left, filter);
  }
  await page.locator("[data-filter=all]").click();
  await page.locator("select").first().selectOption("site");
  assert.deepEqual((await shown(page)).slice(5, 8), ["node-11", "node-2", "node-4"], "by site");
  const { height } = await nodeRow(page, "node-12").boundingBox();
  assert.ok(height < 80, `${height} px for a node`);
  await fetch(main.url("/api/v1/fleet/nodes/node-3"), {
    method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: "Great Hall" }),
  });
  await page.locator("#health").getByText("Great Hall").waitFor();
  await page.locator(".view-head").getByText("Node key").click();
  assert.equal(await page.evaluate(() => document.activeElement.id), "key-make");
  await assertAccessible(page);
});

test("three problems are in sight, and all of them when they are asked for", async (stage) => {
  const main = await stage.main();
  for (let n = 1; n <= 5; n += 1) await main.register(`cut-${n}`, `127.0.0.1:${n}`);
  const page = await openMain(stage, main, { locale: "en-US" });
  const problems = page.locator("#problems > li");
  const more = page.locator("#more-problems");
  await more.getByText("2 more problems").waitFor();
  assert.equal(await problems.count(), 3);
  await more.click();
  await until("all are shown", async () => (await problems.count()) === 5);
  assert.equal(await more.isVisible(), false);
  assert.equal(await problems.nth(3).getByRole("link").evaluate((link) => link === document.activeElement), true);
});

for (const locale of ["en-US", "zh-CN"]) {
  test(`on a phone no name of a view is broken or cut off: ${locale}`, async (stage) => {
    const page = await openMain(stage, await stage.main(), { locale, width: 360, height: 740 });
    const labels = await page.locator("#views a").evaluateAll((all) => all.map((link) => {
      const [box, text] = [link.parentElement, link.lastChild].map((one) => one.getBoundingClientRect());
      return { text: link.textContent, lines: text.height / parseFloat(getComputedStyle(link).fontSize), over: text.width - box.width };
    }));
    for (const { text, lines, over } of labels) assert.ok(lines < 2 && over <= 0, `${text}: ${lines}, ${over} px too wide`);
  });

  test(`a screen on the wall is filled, and read from afar: ${locale}`, async (stage) => {
    const { main } = await fleet(stage, 9);
    await main.download("m1");
    for (const [width, height, type] of [[1920, 1080, 16], [2560, 1440, 19], [3840, 2160, 28]]) {
      const page = await openMain(stage, main, { locale, width, height, dark: locale === "zh-CN" });
      for (const view of VIEWS) {
        await panel.go(page, view);
        await panel.untilGone(page.locator(".skeleton"));
        const { size, share } = await page.evaluate(() => ({
          size: parseFloat(getComputedStyle(document.body).fontSize),
          share: document.querySelector("main").getBoundingClientRect().width / innerWidth,
        }));
        assert.ok(size >= type && share > 0.6, `${view}, ${width} px: type of ${size} px, ${share} of the width`);
        await assertNoSidewaysScroll(page);
        await stage.look(page, `main server, ${view}, ${width} px, ${locale}`);
      }
    }
  });
}

test("downloads that failed stand before the latest, of which the first ones are shown", async (stage) => {
  const main = await stage.main();
  await main.activate("m1", "Board", PACKAGE);
  await fetch(main.url("/api/v1/meetings/gone/download-package"));
  for (let n = 0; n < 18; n += 1) await main.download("m1");
  const page = await openMain(stage, main, { view: "traffic", width: 360, height: 740, locale: "en-US" });
  const rows = page.locator("#recent tbody tr");
  await page.locator("#more").getByText("Show 3 more").waitFor();
  assert.equal(await rows.count(), 15);
  const [failed, latest] = await Promise.all([page.locator("#refused").boundingBox(), page.locator("#recent").boundingBox()]);
  assert.ok(failed.y < latest.y);
  const { height } = await rows.first().boundingBox();
  assert.ok(height < 72, `${height} px for a download on a phone`);
  await page.locator("#more").click();
  await until("all are shown", async () => (await rows.count()) === 18);
  await assertNoSidewaysScroll(page);
});

test("the history names meetings by their titles, also those that are gone", async (stage) => {
  const main = await stage.main();
  await main.create("m1", "Board", PACKAGE);
  await fetch(main.url("/api/v1/meetings/m1"), { method: "DELETE" });
  const page = await openMain(stage, main, { view: "history", locale: "en-US" });
  await page.locator("[data-change]").first().getByText("Board").waitFor();
  assert.match(await page.locator("[data-change]").first().innerText(), /Meeting deleted: ?Board m1/);
  assert.match(await page.locator("[data-change]").nth(1).innerText(), /SHA-256: [0-9a-f]{12}…/);
});

test("of running meetings those without their package stand first, and ended ones can be left out", async (stage) => {
  const main = await stage.main();
  await main.activate("bare", "Without");
  for (const id of ["one", "two"]) await main.activate(id, id, PACKAGE);
  await main.create("later", "Later", PACKAGE);
  await main.finish("one");
  const page = await openMain(stage, main, { view: "meetings" });
  const listed = () => page.locator("#meetings > li").evaluateAll((all) => all.map((one) => one.dataset.meeting));
  await until("they are in order", async () => (await listed()).join() === "bare,two,later,one");
  await page.locator("[data-filter=running]").click();
  assert.deepEqual(await listed(), ["bare", "two"]);
  await page.locator("[data-filter=ended]").click();
  assert.deepEqual(await listed(), ["one"]);
  const { height } = await panel.row(page, "one").boundingBox();
  assert.ok(height < 90, `${height} px for an ended meeting`);
});
