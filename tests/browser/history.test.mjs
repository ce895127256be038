// The main server's history: what operators changed, and downloads that failed.

import assert from "node:assert/strict";

import { openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });

test("who changed what is listed, as it happens and in pages, and as a table", async (stage) => {
  const main = await stage.main();
  const page = await openMain(stage, main, { view: "history", locale: "en-US" });
  const rows = page.locator("[data-change]");
  await page.getByText("No changes yet").waitFor();
  await main.activate("m1", "Board", PACKAGE);
  await until("three changes are listed", async () => (await rows.count()) === 3);
  assert.match(await rows.first().innerText(), /Meeting started: ?Board m1[^]*127\.0\.0\.1[^]*on the machine itself/);
  assert.match(await rows.last().innerText(), /Meeting created: ?Board m1[^]*title: Board/);
  for (let n = 0; n < 100; n += 1) {
    await fetch(main.url("/api/v1/meetings"), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ title: `t${n}` }),
    });
  }
  await page.reload();
  await until("a page of them", async () => (await rows.count()) === 100);
  await page.locator("[data-action=more]").click();
  await until("and the rest", async () => (await rows.count()) === 103);
  await page.locator("[data-action=more]").waitFor({ state: "hidden" });
  await stage.look(page, "main server, history");
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByText("Download as a table").click()]);
  assert.equal(file.suggestedFilename(), "edge-mirror-changes.csv");
});

test("downloads that failed are listed with the reason", async (stage) => {
  const main = await stage.main();
  const page = await openMain(stage, main, { view: "traffic", locale: "en-US" });
  const refused = page.locator("#refused");
  assert.equal(await refused.isVisible(), false);
  for (let n = 0; n < 2; n += 1) await fetch(main.url("/api/v1/meetings/gone/download-package"));
  await refused.waitFor();
  assert.deepEqual(await refused.locator("th").allInnerTexts(), ["Time", "Meeting", "Client and reason"]);
  await until("it is listed once", async () => /gone[^]*no such meeting × 2/.test(await refused.innerText()));
  await panel.go(page, "history");
});

test("each of the last days is a row, in either language and on a phone", async (stage) => {
  const main = await stage.main();
  const hour = (day, at, redirects, nodes) => ({
    at: Date.UTC(2026, 10, day, at) / 1000, redirects, own_downloads: 1, refused_downloads: 0,
    bytes_served: 2 ** 20, nodes, silent_nodes: 0, running_meetings: 2,
  });
  const body = JSON.stringify({ step: 3600, periods: [hour(1, 10, 5, 40), hour(2, 10, 300, 40), hour(2, 11, 38, 39)] });
  for (const locale of ["zh-CN", "en-US"]) {
    const page = await openMain(stage, main, { locale });
    await page.route("**/api/v1/history", (route) => route.fulfill({ contentType: "application/json", body }));
    await panel.go(page, "history");
    const days = page.locator("[data-day]");
    await until("two days are listed", async () => (await days.count()) === 2);
    const cells = (await days.first().locator("th, td").allInnerTexts()).slice(1);
    assert.deepEqual(cells, ["338", "2", "0", "2 MiB", "39", "2"]);
    await page.setViewportSize({ width: 360, height: 740 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await stage.look(page, `main server, days ${locale}`);
  }
});
