// What a node's panel shows, and what its buttons do.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { untilShown } from "./support/browser.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { bigZip, zip } from "./support/zip.mjs";

const PACKAGE = zip({ "议程.txt": "第一项" });
const LANGUAGES = {
  "zh-CN": { tongue: "zh-CN", well: /一切正常/, meetings: "会议" },
  "en-US": { tongue: "en", well: /All is well/, meetings: "Meetings" },
};

for (const [locale, { tongue, well, meetings }] of Object.entries(LANGUAGES)) {
  test(`a browser that asks for ${locale} gets the panel in that language`, async (stage) => {
    const main = await stage.main();
    const node = await stage.node(main);
    await main.activate("m1", "董事会 Board", PACKAGE);
    await node.untilSynced("m1");
    const page = await stage.open(node.url("/"), { locale });
    await panel.untilLive(page);
    await untilShown(page, well);
    assert.equal(await page.locator("html").getAttribute("lang"), tongue);
    await panel.go(page, "meetings");
    await page.getByRole("heading", { name: meetings, exact: true }).waitFor();
    await untilShown(page, "董事会 Board");
  });
}

test("the other language is one button away, and remembered", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const page = await panel.openPanel(stage, node);
  await page.locator("#language").click();
  await untilShown(page, LANGUAGES["zh-CN"].well);
  await page.reload();
  await untilShown(page, LANGUAGES["zh-CN"].well);
  assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
});

test("a pull is seen to advance, with its speed and the time that is left", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const size = 32 << 20;
  const meeting = main.activate("m1", "Board", bigZip(size));
  meeting.allow(size / 4);
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  const bar = panel.row(page, "m1").getByRole("progressbar");
  const share = async () => Number(await bar.getAttribute("value"));
  // The node counts in batches of 256 KiB: up to a hundredth less than was sent.
  const isAbout = (part) => async () => Math.abs((await share()) - part) < 0.015;
  await until("a quarter is shown", isAbout(0.25));
  meeting.allow(size / 4);
  await until("half of it is shown", isAbout(0.5));
  const text = panel.row(page, "m1").locator(".meeting-state");
  await until("speed and time left are shown", async () => {
    meeting.allow(64 << 10);
    return /iB\/s.*about .* left/.test(await text.innerText());
  });
  await stage.look(page, "pulling");
  meeting.open();
  await panel.untilState(page, "m1", "synced");
  await panel.untilWell(page);
});

test("a pull says where it comes from and why, and the traffic what goes from node to node", async (stage) => {
  const main = await stage.slowMain();
  const relay = { key: "a-key-of-this-fleet" };
  const nodes = [];
  for (const nodeId of ["hall-1", "hall-2"]) nodes.push(await stage.node(main, { nodeId, relay }));
  await until("both are registered", () => main.registered.size === 2);
  const size = 32 << 20;
  const meeting = main.activate("m1", "Board", bigZip(size));
  meeting.allow(size / 2);
  const source = async (node) => (await node.json("/api/status")).meetings[0]?.source;
  let child, parent;
  await until("one pulls from the other", async () => {
    for (const [n, node] of nodes.entries()) {
      if ((await source(node))?.node) [child, parent] = [node, nodes[1 - n]];
    }
    return child;
  });
  const page = await panel.openPanel(stage, child, { view: "meetings", locale: "en-US" });
  const { nodeId } = parent.config();
  const line = panel.row(page, "m1").locator(".meeting-source");
  const named = new RegExp(`From node .*${nodeId}.* \\(.*:${parent.port}.*\\) since .*chosen by the order of the nodes`);
  await until("node and reason are shown", async () => named.test(await line.innerText()));
  await stage.look(page, "pulled from a node");
  await panel.go(page, "traffic");
  const received = page.locator("[data-fact=received]");
  await until("bytes of the other node", async () => /^\d.* MiB/.test(await received.innerText()));
  await stage.look(page, "relay");
  const other = await panel.openPanel(stage, parent, { view: "meetings", locale: "zh-CN" });
  await untilShown(other, /来自主控服务器，自 .* 起：本节点在排序中居首，直接拉取。/);
  await panel.go(other, "traffic");
  const children = other.locator("[data-fact=children]");
  await until("its child is counted", async () => (await children.innerText()) === "1");
  await stage.look(other, "relay, Chinese");
  meeting.open();
  await child.untilSynced("m1");
});

test("a pull that fails is said with what to do, and trying again is a button", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const meeting = main.activate("m1", "Board");
  const page = await panel.openPanel(stage, node);
  await panel.problem(page, "meeting_failing").waitFor();
  await stage.look(page, "failing");
  await panel.problem(page, "meeting_failing").getByRole("link").click();
  await panel.untilState(page, "m1", "failing");
  meeting.mend(PACKAGE);
  const asked = page.waitForResponse(/\/api\/meetings\/m1\/sync$/);
  await panel.row(page, "m1").locator("[data-action=sync]").click();
  assert.equal((await asked).status(), 202);
  await panel.untilState(page, "m1", "synced");
  await panel.untilWell(page);
});

test("a main server that is away is said, and found again", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await panel.openPanel(stage, node);
  await panel.untilWell(page);
  await main.goAway();
  await panel.problem(page, "main_server_unreachable").waitFor();
  await stage.look(page, "main server away");
  await main.comeBack();
  await panel.untilWell(page);
  await panel.untilGone(page.locator("#problems"));
});

test("a title that is HTML is shown as the text that it is", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main, { cleanup: { enabled: false } });
  // Short enough to be shown whole in a sentence.
  const title = `<img src=x onerror="window.broken=1"><b>t</b>&amp;`;
  main.activate("m1", title, PACKAGE);
  main.activate("m2", `${title}2`);
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  await panel.untilState(page, "m1", "synced");
  await untilShown(page, title);
  main.end("m1");
  await panel.row(page, "m1").locator("[data-action=remove]").click();
  await page.getByRole("dialog").getByText(title).waitFor();
  await panel.answer(page, "no");
  await panel.go(page, "overview");
  await panel.problem(page, "meeting_failing").waitFor();
  await untilShown(page, `${title}2`);
  await panel.go(page, "logs");
  await untilShown(page, title);
  assert.equal(await page.evaluate(() => window.broken), undefined);
});

test("a node that was killed is missed, and found again when it is back", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  main.activate("m1", "Board", PACKAGE);
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  await panel.untilState(page, "m1", "synced");
  stage.allow(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING/);
  await node.kill();
  await page.locator("#connection").waitFor();
  assert.match(await page.locator("#connection").innerText(), /does not answer/);
  await stage.look(page, "node away");
  await node.start();
  await panel.untilGone(page.locator("#connection"));
  main.activate("m2", "After the kill", PACKAGE);
  await panel.untilState(page, "m2", "synced");
});

test("stopping asks first, and a stopped service can be started", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await panel.openPanel(stage, node);
  const calls = panel.counted(page, /^POST .*\/stop$/);
  await page.locator("#stop").click();
  await stage.look(page, "stop");
  await panel.answer(page, "no");
  await page.locator("#stop").click();
  await panel.answer(page, "yes");
  await page.locator("#service-state[data-state=stopped]").waitFor();
  await untilShown(page, /The service is stopped/);
  assert.equal(calls.count, 1, "only the second answer was a yes");
  assert.equal((await node.status()).running, false);
  assert.ok(!main.heartbeats.has("node-test"), "it has said goodbye to the main server");
  await page.locator("#start").click();
  await page.locator("#service-state[data-state=running]").waitFor();
  await panel.untilWell(page);
  await until("the main server hears it again", () => main.heartbeats.has("node-test"));
});

test("a package can be had from the panel as tablets get it", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  main.activate("m1", "Board", PACKAGE);
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  await panel.untilState(page, "m1", "synced");
  const begun = page.waitForEvent("download");
  await panel.row(page, "m1").locator("[data-action=download]").click();
  assert.deepEqual(readFileSync(await (await begun).path()), PACKAGE);
  await panel.go(page, "traffic");
  const served = page.locator("[data-fact=served]");
  await until("it is among the bytes served", async () => (await served.innerText()) === `${PACKAGE.length} B`);
});

test("an ended meeting's package is removed after a question, a running one's is not offered", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main, { cleanup: { enabled: false } });
  main.activate("m1", "Board", PACKAGE);
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  await panel.untilState(page, "m1", "synced");
  const remove = panel.row(page, "m1").locator("[data-action=remove]");
  assert.equal(await remove.isVisible(), false);
  main.end("m1");
  await remove.click();
  await panel.answer(page, "yes");
  await panel.untilGone(panel.row(page, "m1"));
  assert.ok(!existsSync(join(node.folder, "storage/meeting_m1")));
});

test("log lines come as they are written, and are chosen by level", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await panel.openPanel(stage, node, { view: "logs" });
  await untilShown(page, /is listening on/);
  main.activate("m1", "Without a package");
  await untilShown(page, /meeting m1 \(Without a package\) is active/);
  await page.locator("#log [data-level=WARNING]").first().waitFor();
  await page.locator("#level").selectOption("WARNING");
  await panel.untilGone(page.locator("#log [data-level=INFO]"));
  assert.ok((await page.locator("#log [data-level=WARNING]").count()) > 0);
});

test("a node that only waits was in touch with its main server just now", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const page = await panel.openPanel(stage, node);
  await panel.untilWell(page);
  await until("its last poll is shown", async () => (await page.locator("[data-fact=last_poll]").innerText()) === "just now");
});

test("a meeting without a digest has none to copy", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  main.activate("ready", "Board", PACKAGE);
  main.activate("failing", "No package");
  const page = await panel.openPanel(stage, node, { view: "meetings" });
  for (const [id, state, copies] of [["ready", "synced", 1], ["failing", "failing", 0]]) {
    await panel.untilState(page, id, state);
    const row = panel.row(page, id);
    await row.locator("[data-action=details]").click();
    await row.locator("[data-fact=sha256]").waitFor();
    assert.equal(await row.locator("[data-action=copy]").filter({ visible: true }).count(), copies, id);
  }
});

test("the API's documentation is one click away", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const page = await panel.openPanel(stage, node);
  await page.locator("#foot a").click();
  await page.waitForURL("**/api/docs");
  await page.getByRole("heading", { name: "API", exact: true }).waitFor();
});
