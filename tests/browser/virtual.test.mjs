// Virtual nodes on the main server's page.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

test("virtual nodes are made, changed and deleted", async (stage) => {
  const main = await stage.main();
  for (const locale of ["en-US", "zh-CN"]) {
    const page = await openMain(stage, main, { view: "nodes", locale, ...(locale === "zh-CN" && { width: 360, height: 740 }) });
    const dialog = page.getByRole("dialog");
    const save = () => dialog.locator("[data-answer=yes]").click();
    const door = page.locator("[data-virtual=door]");
    await page.locator("[data-action=add-virtual]").click();
    await save();
    await page.locator("#virtual-id-wrong .icon").waitFor();
    await assertAccessible(page);
    await page.locator("#virtual-id").fill("door");
    await page.locator("#virtual-site").fill("Yard");
    await page.locator("#virtual-labels").fill("sign，4K");
    await save();
    await panel.untilGone(dialog);
    await until("it is listed", async () => /Yard[^]*sign, 4K/.test(await door.innerText()));
    assert.deepEqual((await main.json("/api/v1/virtual-nodes/door")).labels, ["sign", "4K"]);
    // Another one of its name would take its place.
    await page.locator("[data-action=add-virtual]").click();
    await page.locator("#virtual-id").fill("door");
    await save();
    await page.locator("#virtual-id-wrong .icon").waitFor();
    await dialog.locator("[data-answer=no]").click();
    await door.locator("[data-action=edit-virtual]").click();
    assert.equal(await page.locator("#virtual-labels").inputValue(), "sign, 4K");
    await page.locator("#virtual-site").fill("Hall");
    await save();
    await until("it is elsewhere", async () => /Hall/.test(await door.innerText()));
    await stage.look(page, `main server, virtual nodes ${locale}`);
    await assertNoSidewaysScroll(page);
    await door.locator("[data-action=remove-virtual]").click();
    await save();
    await panel.untilGone(door);
  }
});
