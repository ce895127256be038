// Messages from the main server on the node's panel.

import assert from "node:assert/strict";

import { STRANGER, assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const notices = (page) => page.locator("[data-notice]");

function sender(main) {
  return async (body, more = {}) => {
    const answer = await fetch(main.url("/api/v1/casts"), {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ topic: "notice", body, to: { all: true }, ...more }),
    });
    assert.equal(answer.status, 201);
  };
}

test("messages are shown as they come, as text, until they are dismissed", async (stage) => {
  const main = await stage.main();
  const node = await stage.node(main);
  const say = sender(main);
  const page = await panel.openPanel(stage, node, { locale: "en-US" });
  assert.equal(await notices(page).count(), 0);
  await say("Moved to 10:30");
  await say("for a program", { topic: "other" });
  await until("it is shown", async () => /Moved to 10:30[^]*expires/.test(await notices(page).innerText()));
  await say('<b onclick="x">Fire drill</b>', { priority: "urgent" });
  await until("the newest is first", async () =>
    /^<b onclick="x">Fire drill<\/b>[^]*urgent/.test(await notices(page).first().innerText()));
  await say({ room: 3 });
  await say("四楼停电。\n请使用楼梯。");
  await until("three of four", async () => (await notices(page).count()) === 3);
  await page.locator("[data-action=more-notices]").click();
  await until("and the rest", async () => (await notices(page).allInnerTexts()).join().includes("Moved to 10:30"));
  await stage.look(page, "overview with messages");
  await assertAccessible(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await assertNoSidewaysScroll(page);
  await stage.look(page, "overview with messages on a phone");
  await notices(page).filter({ hasText: "Fire drill" }).locator("[data-action=dismiss]").click();
  await until("it is gone", async () => (await notices(page).count()) === 3);
  await until("the main server knows that it was read", async () => {
    const { casts } = await main.json("/api/v1/casts?search=Fire");
    return (await main.json(`/api/v1/casts/${casts[0].id}`)).delivery.read === 1;
  });
  await page.reload();
  await until("and stays so", async () => (await notices(page).count()) === 3);
  assert.doesNotMatch((await notices(page).allInnerTexts()).join(), /Fire drill/);
});

test("strangers see no messages, and operators those of the topic that is set", async (stage) => {
  const main = await stage.main();
  const node = await stage.node(main, { casts: { showOnPanel: "hall" } });
  const page = await panel.openPanel(stage, node, { locale: "zh-CN" });
  const stranger = await panel.openPanel(stage, node, { host: STRANGER });
  const say = sender(main);
  await say("not for here");
  await say("for the hall", { topic: "hall" });
  await until("it is shown", async () => /for the hall/.test(await notices(page).innerText()));
  assert.equal(await notices(stranger).count(), 0);
  assert.equal((await fetch(node.url("/api/notices"))).status, 200);
  const config = node.config();
  config.casts.showOnPanel = "";
  node.configure(config);
  await panel.untilGone(notices(page));
});
