// Groups of nodes on the main server's page.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const group = (page, name) => page.locator(`[data-group="${name}"]`);
const save = (page) => page.getByRole("dialog").locator("[data-answer=yes]").click();

test("groups are made, changed and deleted, and say who is in them", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await nodes.beat("hall", { site: "East" });
  await nodes.beat("lobby", { site: "West" });
  await nodes.beat("room", { site: "West" });
  stage.allow(/status of 400/);
  // A node that came this moment is not known yet.
  const label = (id, labels) => until(`${id} has its labels`, async () => (await fetch(main.url(`/api/v1/fleet/nodes/${id}`), {
    method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ labels }),
  })).ok);
  await label("hall", ["screen"]);
  await label("lobby", ["screen", "old"]);
  for (const locale of ["en-US", "zh-CN"]) {
    const page = await openMain(stage, main, { view: "nodes", locale, ...(locale === "zh-CN" && { width: 360, height: 740 }) });
    const dialog = page.getByRole("dialog");
    await page.locator("[data-action=add-group]").click();
    await save(page);
    for (const field of ["name", "to"]) await page.locator(`#group-${field}-wrong .icon`).waitFor();
    await page.locator("#group-name").fill("Screens");
    await page.locator("#group-labels").fill("screen & ");
    await save(page);
    await page.locator("#group-labels-wrong .icon").waitFor();
    await stage.look(page, `main server, a group that is wrong ${locale}`);
    await page.locator("#group-labels").fill("screen & !old");
    await page.locator("#group-to").selectOption({ label: "room" });
    await save(page);
    await panel.untilGone(dialog);
    await until("two are in it", async () => /2/.test(await group(page, "Screens").innerText()));
    await group(page, "Screens").locator("[data-action=members]").click();
    await until("they are named", async () => {
      const names = await group(page, "Screens").locator("ul li").allInnerTexts();
      return names.join() === "hall,room";
    });
    // Another one of its name would take its place.
    await page.locator("[data-action=add-group]").click();
    await page.locator("#group-name").fill("Screens");
    await page.locator("#group-to").selectOption({ label: "West" });
    await save(page);
    await page.locator("#group-name-wrong .icon").waitFor();
    await dialog.locator("[data-answer=no]").click();
    await group(page, "Screens").locator("[data-action=edit-group]").click();
    assert.equal(await page.locator("#group-labels").inputValue(), "screen & !old");
    await dialog.locator("[data-to=room]").click();
    await page.locator("#group-to").selectOption({ label: "West" });
    await save(page);
    await until("its members are others", async () => {
      const names = await group(page, "Screens").locator("ul li").allInnerTexts();
      return names.join() === "hall,lobby,room";
    });
    await assertNoSidewaysScroll(page);
    await assertAccessible(page);
    await stage.look(page, `main server, groups ${locale}`);
    // What is made here can be chosen at once.
    await panel.go(page, "messages");
    await page.locator("#compose-to option", { hasText: "Screens" }).waitFor({ state: "attached" });
    await panel.go(page, "nodes");
    await group(page, "Screens").locator("[data-action=remove-group]").click();
    await panel.answer(page, "yes");
    await panel.untilGone(group(page, "Screens"));
  }
});
