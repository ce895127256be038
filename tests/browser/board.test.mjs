// The readiness board on the main server's first view: who has a meeting's package, who
// does not, and why.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });
const HAS = { has: { m1: PACKAGE } };
const FULL = { id: "m1", cause: "no_room", text: "the disk is full" };
const pulling = (received, rate) => ({ pulls: [{ id: "m1", received_bytes: received, total_bytes: 1000, rate }] });

const cell = (page, id) => page.locator(`#board [data-node="${id}"]`);
const untilCell = (page, id, state) => page.locator(`#board [data-node="${id}"][data-state=${state}]`).waitFor();
const shown = (page) => page.locator("#board [data-node]").evaluateAll((all) => all.map((one) => one.dataset.node));

test("the board says who is ready and why others are not, and is green only when all are", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await main.activate("m1", "Board", PACKAGE);
  await nodes.beat("1-Hall", { site: "South" });
  await nodes.beat("1-Hall", { site: "South", ...HAS });
  await nodes.beat("2-Yard", { site: "North", ...pulling(370, 21) });
  await nodes.beat("3-Attic", { site: "North", failed: [FULL] });
  const page = await openMain(stage, main, { locale: "en-US" });
  await panel.untilState(page, "m1", "stuck");
  const row = panel.row(page, "m1");
  await until("the first is ready", async () => /^1 of 3 nodes is ready with version 1, the last at \d\d:\d\d; not ready: /m.test(await row.innerText()));
  assert.match(await row.innerText(), /not ready: \P{L}*3-Attic\P{L}*, \P{L}*2-Yard/u);
  await page.locator("#health").getByText("3-Attic").waitFor();
  await row.locator("[data-action=nodes]").click();
  for (const [id, state] of [["1-Hall", "ready"], ["2-Yard", "pulling"], ["3-Attic", "failing"]]) await untilCell(page, id, state);
  assert.match(await cell(page, "3-Attic").innerText(), /failing · there is not enough room: the disk is full/);
  assert.match(await cell(page, "2-Yard").innerText(), /37 % · about 30 secs left/);
  assert.deepEqual(await row.locator("h3").allInnerTexts().then((all) => all.map((text) => text.replace(/\s+/g, " "))),
    ["North 0 of 2 ready", "South 1 of 1 ready"]);
  await assertAccessible(page);
  // Also without colours: by name, and with the state in words.
  await fetch(main.url("/api/v1/fleet/nodes/1-Hall"), {
    method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: "Great Hall" }),
  });
  await until("its name is shown", async () => /^Great Hall, ready\s*$/.test(await cell(page, "1-Hall").evaluate((one) => one.textContent)));
  await stage.look(page, "board, a node fails");
  for (const [filter, left] of [["lacking", ["3-Attic", "2-Yard"]], ["failing", ["3-Attic"]], ["away", []]]) {
    await row.locator(`[data-filter=${filter}]`).click();
    assert.deepEqual(await shown(page), left, filter);
  }
  await row.locator("[data-filter=all]").click();
  await row.locator("input[type=search]").fill("north");
  assert.deepEqual(await shown(page), ["3-Attic", "2-Yard"]);
  await panel.go(page, "meetings");
  await panel.untilState(page, "m1", "lacking");
  await panel.go(page, "overview");
  await nodes.beat("2-Yard", { site: "North", ...HAS });
  await nodes.beat("3-Attic", { site: "North", ...HAS });
  await panel.untilState(page, "m1", "ready");
  assert.match(await row.innerText(), /^All 3 nodes are ready with version 1, the last at \d\d:\d\d\.$/m);
  await panel.untilWell(page);
  // Long after the start, it is not green either while a node is without.
  await panel.go(page, "meetings");
  await panel.untilState(page, "m1", "running");
  await nodes.beat("4-Late", { failed: [FULL] });
  await panel.untilState(page, "m1", "lacking");
  await nodes.beat("4-Late", pulling(10, 1));
  await panel.untilState(page, "m1", "spreading");
});

test("two hundred nodes of a meeting are seen at once", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await main.create("m1", "董事会", PACKAGE);
  const name = (n) => `${String(n).padStart(3, "0")}-${["东", "西", "南", "北"][n % 4]}`;
  const site = (n) => ["A 座", "B 座"][n % 2];
  for (let n = 0; n < 200; n += 1) {
    await nodes.beat(name(n), { site: site(n), ...(n % 3 === 0 ? HAS : pulling(n * 4, 10)), ...(n === 77 ? { pulls: [], failed: [FULL] } : {}) });
  }
  await main.begin("m1");
  const page = await openMain(stage, main, { width: 1440, height: 1200 });
  await panel.untilState(page, "m1", "stuck");
  await panel.row(page, "m1").locator("[data-action=nodes]").click();
  await until("all are there", async () => (await shown(page)).length === 200);
  await until("all were reached", async () => (await page.locator("#board [data-node][data-state=ready]").count()) === 67);
  const odd = (await shown(page)).filter((id) => Number(id.slice(0, 3)) % 2 === 1);
  assert.equal(odd[0], name(77), "what fails comes first at its site");
  const { height } = await page.locator("#board .board-panel").boundingBox();
  assert.ok(height < 1100, `${height} px`);
  await stage.look(page, "board, two hundred nodes");
  for (const [width, dark] of [[360, true], [768, false], [1920, true]]) {
    const other = await openMain(stage, main, { width, height: 1080, dark });
    await panel.row(other, "m1").locator("[data-action=nodes]").click();
    await until("all are there, too", async () => (await shown(other)).length === 200);
    await assertNoSidewaysScroll(other);
    await stage.look(other, `board, two hundred nodes, ${width} px`);
  }
});
