// Messages from the main server's page to nodes, and how far each is on its way.

import assert from "node:assert/strict";

import { openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const messages = (page) => page.locator("[data-message]");
const send = (page) => page.locator("#compose-title ~ form button[type=submit]");
const choose = async (page, option) => {
  await page.locator("#compose-to").selectOption(option);
  await page.locator("#view [data-action=add]").click();
};
const known = (page, id) => page.locator(`#compose-to option`, { hasText: id }).waitFor({ state: "attached" });

test("a message is sent to nodes, and one that was away gets it when it returns", async (stage) => {
  const main = await stage.main();
  const here = await stage.node(main, { nodeId: "here" });
  const away = await stage.node(main, { nodeId: "away" });
  const page = await openMain(stage, main, { view: "messages", locale: "en-US" });
  await page.getByText("No messages yet").waitFor();
  await known(page, "here");
  await known(page, "away");
  await away.kill();
  await page.locator("#compose-text").fill("Moved to 10:30");
  await choose(page, "all");
  await send(page).click();
  await until("one node has it", async () =>
    /Moved to 10:30[^]*On its way[^]*1 of 2 nodes have it[^]*Not yet: away/.test(await messages(page).innerText()));
  assert.equal(await page.locator("#compose-text").inputValue(), "", "the next one begins empty");
  await stage.look(page, "main server, messages");
  await away.start();
  await page.locator("[data-message][data-state=delivered]").waitFor();
  // To a name without a node of its own.
  await fetch(main.url("/api/v1/virtual-nodes/door"), { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ site: "Yard" }) });
  await page.reload();
  for (const name of ["door", "Yard"]) await known(page, name);
  await page.locator("#compose-text").fill("for a door");
  await choose(page, { label: "door" });
  await send(page).click();
  await until("it waits for a program", async () => /for a door[^]*0 of 1 node has it[^]*Not yet: door/.test(await messages(page).first().innerText()));
  // To one node alone, after the others were taken away.
  await page.locator("#compose-text").fill("for one");
  await page.locator("[data-to]").click();
  await choose(page, { label: "here" });
  await send(page).click();
  await until("it is on top", async () => (await messages(page).count()) === 3);
  await until("the node has it", async () => /for one[^]*1 of 1 node has it/.test(await messages(page).first().innerText()));
  await page.locator("#view [type=search]").fill("10:30");
  await until("one is found", async () => (await messages(page).count()) === 1);
  await page.locator("#view [type=search]").fill("nowhere");
  await page.getByText("Nothing found").waitFor();
});

test("a message that nobody has yet is cancelled, and what can't be sent is refused in place", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await nodes.beat("old", { site: "East" });
  stage.allow(/status of 400/);
  for (const locale of ["zh-CN", "en-US"]) {
    const page = await openMain(stage, main, { view: "messages", locale, width: 360, height: 740 });
    await known(page, "old");
    await send(page).click();
    for (const field of ["text", "to"]) {
      await page.locator(`#compose-${field}[aria-invalid=true]`).waitFor();
      assert.notEqual(await page.locator(`#compose-${field}-wrong`).innerText(), "");
    }
    await page.locator("#compose-text").fill("<b>x</b> ".repeat(600));
    await choose(page, { label: "East" });
    await send(page).click();
    await page.locator("#compose-wrong .icon").waitFor();
    assert.match(await page.locator("#compose-wrong").innerText(), /4096/);
    await page.locator("#compose-text").fill(`<b>in ${locale}</b>`);
    await send(page).click();
    const sent = messages(page).first();
    await until("it waits", async () => (await sent.innerText()).includes(`<b>in ${locale}</b>`));
    await until("for its node", async () => (await sent.innerText()).includes("old"));
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await stage.look(page, `main server, messages on a phone ${locale}`);
    await sent.locator("[data-action=cancel]").click();
    await panel.answer(page, "yes");
    await page.locator("[data-message][data-state=cancelled]").first().waitFor();
  }
});
