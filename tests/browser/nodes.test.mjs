// The main server's view of its nodes: who is there, where downloads went,
// and the key that nodes may be asked for.

import assert from "node:assert/strict";

import { fact, makeKey, nodeRow, openMain, untilNode } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });

const untilFact = (place, name, text) =>
  until(`${name} is ${text}`, async () => (await fact(place, name).innerText()) === text);

test("nodes are listed with whether they can be reached, and one that dies is missed", async (stage) => {
  const main = await stage.main();
  const page = await openMain(stage, main, { view: "nodes" });
  const node = await stage.node(main);
  await main.register("cut off", "127.0.0.1:9");
  await untilNode(page, "node-test", "reachable");
  await untilNode(page, "cut off", "unreachable");
  await nodeRow(page, "cut off").locator("[data-action=details]").click();
  assert.match(await fact(nodeRow(page, "cut off"), "reason").innerText(), /127\.0\.0\.1:9/);
  await node.kill();
  await untilNode(page, "node-test", "unreachable");
  await panel.go(page, "overview");
  const missed = panel.problem(page, "node_unreachable");
  await until("both are a problem", async () => (await missed.count()) === 2);
  await stage.look(page, "main server, nodes missed");
  await node.start();
  await missed.filter({ hasText: "node-test" }).waitFor({ state: "hidden" });
  await panel.go(page, "nodes");
  await untilNode(page, "node-test", "reachable");
  // A node that is stopped says goodbye, and stays known.
  await fetch(node.url("/api/service/stop"), { method: "POST" });
  await untilNode(page, "node-test", "awaited");
});

test("a node without any package does not claim that tablets are sent there", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await main.activate("m1", "Board", PACKAGE);
  await main.activate("m2", "Council", PACKAGE);
  const page = await openMain(stage, main, { view: "nodes", locale: "en-US" });
  for (const [has, said] of [
    [{}, /No package yet[^]*no tablets are sent here before it has a package/],
    [{ m1: PACKAGE }, /In use[^]*for the packages it has/],
    [{ m1: PACKAGE, m2: PACKAGE }, /In use[^]*tablets are sent here$/m],
  ]) {
    await nodes.beat("hall", { has });
    await until(String(said), async () => said.test(await nodeRow(page, "hall").innerText()));
  }
});

test("of many nodes those that are lost stand first, and one is found by what is known of it", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  for (let n = 1; n <= 9; n += 1) await nodes.beat(`node-${n}`, { site: n > 6 ? "East" : "West" });
  await main.register("z-lost", "127.0.0.1:9");
  const page = await openMain(stage, main, { view: "nodes" });
  await untilNode(page, "z-lost", "unreachable");
  await untilNode(page, "node-9", "reachable");
  const shown = () => page.locator("#nodes > li").evaluateAll((all) => all.map((one) => one.dataset.node));
  assert.deepEqual((await shown()).slice(0, 2), ["z-lost", "node-1"]);
  for (const [text, found] of [["east", ["node-7", "node-8", "node-9"]], ["127.0.0.1:9", ["z-lost"]], ["node-3", ["node-3"]], ["nowhere", []]]) {
    await page.locator("#search").fill(text);
    assert.deepEqual(await shown(), found, text);
  }
  await page.locator(".empty").waitFor();
});

test("a node from elsewhere waits until somebody accepts it, and one that poses as another is refused", async (stage) => {
  const main = await stage.main("--trusted-proxy", "127.0.0.1");
  const page = await openMain(stage, main, { view: "nodes" });
  const pending = (id) => page.locator(`[data-pending="${id}"]`);
  const hostile = `<b>hall</b>`;
  await main.registerFrom("10.0.0.7", "hall", "127.0.0.1:9");
  await main.registerFrom("10.0.0.8", hostile, "127.0.0.1:9");
  await pending("hall").getByText("10.0.0.7").waitFor();
  assert.equal(await nodeRow(page, "hall").count(), 0);
  await page.locator("#pending").getByText(hostile).waitFor();
  await stage.look(page, "main server, nodes wait");
  await pending("hall").locator("[data-action=approve]").click();
  await panel.untilGone(pending("hall"));
  await untilNode(page, "hall", "unreachable");
  const refusals = panel.counted(page, /^POST .*\/refuse/);
  const refuse = async (id, answer) => {
    await pending(id).locator("[data-action=refuse]").click();
    await panel.answer(page, answer);
  };
  await refuse(hostile, "no");
  await refuse(hostile, "yes");
  await panel.untilGone(pending(hostile));
  await main.registerFrom("10.0.0.66", "hall", "127.0.0.2:9");
  await pending("hall").getByText("10.0.0.66").waitFor();
  await panel.go(page, "overview");
  await panel.problem(page, "node_moves").getByRole("link").click();
  await refuse("hall", "yes");
  await panel.untilGone(page.locator("#pending"));
  assert.equal(await nodeRow(page, "hall").locator(".code").first().innerText(), "127.0.0.1:9");
  assert.equal(refusals.count, 2, "every yes and no other");
});

for (const [locale, words] of [["zh-CN", { drained: "已停止引导", none: "0 / 1" }], ["en-US", { drained: "Drained", none: "0 / 1" }]]) {
  test(`a known node is given a name, drained and removed, in ${locale}`, async (stage) => {
    const main = await stage.main();
    const page = await openMain(stage, main, { view: "nodes", locale });
    await main.register("hall", "127.0.0.1:9");
    const row = nodeRow(page, "hall");
    const dialog = page.getByRole("dialog");
    await row.locator("[data-action=edit]").click();
    await dialog.locator("#edit-name").fill("<i>1 号厅</i>");
    await dialog.locator("#edit-site").fill("East");
    await dialog.locator("#edit-labels").fill("3F, 东，3F");
    await dialog.locator("#edit-weight").fill("2");
    await dialog.locator("#edit-priority").fill("10");
    await dialog.locator("#edit-drained").check();
    await panel.answer(page, "yes");
    await untilNode(page, "hall", "drained");
    await row.getByText("<i>1 号厅</i>").waitFor();
    await row.getByText("East · 3F · 东").waitFor();
    await row.getByText(words.drained, { exact: true }).waitFor();
    const [{ weight, priority }] = (await main.json("/api/v1/fleet/nodes")).nodes;
    assert.deepEqual([weight, priority], [2, 10]);
    await row.locator("[data-action=edit]").click();
    assert.equal(await dialog.locator("#edit-labels").inputValue(), "3F, 东");
    assert.equal(await dialog.locator("#edit-priority").inputValue(), "10");
    await dialog.locator("#edit-labels").fill("x".repeat(65));
    stage.allow(/status of 400/);
    await dialog.locator("[data-answer=yes]").click();
    await dialog.locator("#edit-wrong").getByText("labels").waitFor();
    await panel.answer(page, "no");
    await stage.look(page, `main server, a drained node, ${locale}`);
    await panel.go(page, "overview");
    await page.locator(".tile", { hasText: words.none }).getByText(words.drained).waitFor();
    await panel.go(page, "nodes");
    const removals = panel.counted(page, /^DELETE .*\/fleet\/nodes\/hall$/);
    await row.locator("[data-action=details]").click();
    await row.locator("[data-action=remove]").click();
    await panel.answer(page, "no");
    await row.locator("[data-action=remove]").click();
    await panel.answer(page, "yes");
    await panel.untilGone(row);
    assert.equal(removals.count, 1, "only the second answer was a yes");
  });
}

for (const [locale, words] of [["zh-CN", { to: "站点 3F", why: "已停止引导", gone: "没有保存" }], ["en-US", { to: "site 3F", why: "drained", gone: "Nothing was saved" }]]) {
  test(`rules say where tablets go, and the page why, in ${locale}`, async (stage) => {
    const main = await stage.main();
    await main.create("m1", "Board", PACKAGE);
    const page = await openMain(stage, main, { view: "nodes", locale });
    const node = await stage.node(main);
    await untilNode(page, "node-test", "reachable");
    const dialog = page.getByRole("dialog");
    const rule = page.locator("#rules .rule");
    await page.locator("[data-action=add-rule]").click();
    await dialog.locator("#rule-clients").fill("10.3.0.9/16, fd00::/8");
    stage.allow(/status of 400/);
    await dialog.locator("[data-answer=yes]").click();
    await dialog.locator("#rule-wrong").getByText("1").waitFor();
    await dialog.locator("#rule-sites").fill("3F");
    await panel.answer(page, "yes");
    await rule.getByText("10.3.0.0/16, fd00::/8").waitFor();
    await rule.getByText(words.to).waitFor();
    await stage.look(page, `main server, rules, ${locale}`);

    await main.begin("m1");
    await fetch(main.url("/api/v1/fleet/nodes/node-test"), {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ drained: true }),
    });
    await untilNode(page, "node-test", "drained");
    await page.locator(".choice summary").click();
    await page.locator("#choice-client").fill("10.3.0.7");
    await page.locator("[data-action=explain]").click();
    await page.locator("#choice").getByText("node-test").waitFor();
    await page.locator("#choice").getByText(words.why).waitFor();
    await stage.look(page, `main server, the reason for a choice, ${locale}`);
    await page.locator("#choice-client").fill("nobody");
    await page.locator("[data-action=explain]").click();
    await page.locator(".choice .wrong").getByText("nobody").waitFor();

    // What was found is of the address that was asked about; and a rule that
    // somebody else has changed meanwhile is not overwritten.
    await page.locator("#choice-client").fill("10.3.0.8");
    assert.equal(await page.locator("#choice").innerText(), "");
    await rule.locator("[data-action=edit-rule]").click();
    await fetch(main.url("/api/v1/fleet/rules"), {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ rules: [{ clients: ["10.9.0.0/16"], sites: ["9F"] }] }),
    });
    await rule.getByText("10.9.0.0/16").waitFor();
    await dialog.locator("[data-answer=yes]").click();
    await dialog.locator("#rule-wrong").getByText(words.gone).waitFor();
    await panel.answer(page, "no");
    await rule.getByText("9F").waitFor();

    await rule.locator("[data-action=remove-rule]").click();
    await panel.answer(page, "yes");
    await panel.untilGone(rule);
    await node.kill();
  });
}

test("packages that spread are shown as trees, and one can be spread before its meeting starts", async (stage) => {
  const main = await stage.main();
  await main.create("m1", "Board", PACKAGE);
  const beat = (node_id, site, pulls) => fetch(main.url("/api/v1/nodes/heartbeat"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      node_id, address: "127.0.0.1:9", status: "online", active_meetings: [], synced_meetings: [],
      mirror: {
        version: "1", downloads: 0, free_bytes: 1, packages: [], pulls,
        relay: { address: `${node_id}:1`, site, max_children: 4 },
      },
    }),
  });
  await beat("hall", "East", []);
  await beat("yard", "", []);
  const page = await openMain(stage, main, { view: "meetings" });
  const row = page.locator("[data-meeting=m1]");
  await row.locator("[data-action=distribute]").click();
  await row.locator("[data-action=distribute]").waitFor({ state: "hidden" });
  assert.equal(await row.getAttribute("data-state"), "waiting");
  await panel.go(page, "relay");
  const hall = page.locator('[data-node="hall"]');
  await page.locator('[data-node="hall"][data-state=waiting]').waitFor();
  for (const [id, site] of [["hall", "East"], ["yard", ""]]) {
    await beat(id, site, [{ id: "m1", received_bytes: 60, rate: 20 }]);
  }
  await page.locator('[data-node="hall"][data-state=pulling]').waitFor();
  assert.match(await hall.innerText(), /East[^]*20 B\/s/);
  await page.locator('[data-node="yard"][data-state=pulling]').waitFor();
  for (const id of ["hall", "yard"]) {
    const bar = await page.locator(`[data-node="${id}"] > .relay-row > .progress`).boundingBox();
    assert.ok(bar.width > 40, `${id}: a bar of ${bar.width} px`);
  }
  await stage.look(page, "main server, a package spreads");
});

test("downloads are shown with what has become of them at the nodes", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await nodes.beat("old", { downloads: 2 });
  const page = await openMain(stage, main, { view: "traffic", locale: "en-US" });
  await untilFact(page, "at_nodes", "2");
  await untilFact(page, "completed", "–");
  await nodes.beat("hall", { downloads: 3, ended: { completed: 480, broken_off: 7 } });
  await nodes.beat("yard", { ended: { completed: 7, broken_off: 0 } });
  for (const [name, text] of [["at_nodes", "5"], ["completed", "487"], ["broken_off", "7"]]) await untilFact(page, name, text);
  await panel.go(page, "nodes");
  await nodeRow(page, "hall").locator("[data-action=details]").click();
  await untilFact(nodeRow(page, "hall"), "results", "480 completed, 7 broken off (since it was started)");
});

test("downloads are shown where they went: from here, or by which node", async (stage) => {
  const main = await stage.main();
  await main.activate("m1", "Board", PACKAGE);
  const page = await openMain(stage, main, { view: "traffic" });
  const recent = page.locator("#recent tbody tr");
  assert.equal(await recent.count(), 0);
  assert.deepEqual(await main.download("m1"), PACKAGE);
  await untilFact(page, "own_downloads", "1");
  await until("it is among the latest", async () => (await recent.count()) === 1);
  const node = await stage.node(main);
  await main.untilServedBy("m1", "node-test");
  for (const n of [1, 2]) {
    assert.deepEqual(await main.download("m1"), PACKAGE);
    await untilFact(page, "redirects", String(n));
  }
  assert.equal((await node.status()).meetings[0].downloads, 2);
  await stage.look(page, "main server, downloads");
  await untilFact(page, "own_downloads", "1");
  const where = await recent.allInnerTexts();
  assert.deepEqual(where.map((line) => line.includes("node-test")), [true, true, false], "newest first");
  assert.ok(where.every((line) => line.includes("Board") && line.includes("127.0.0.1")), String(where));
  const shares = page.locator("#shares [role=meter]");
  assert.deepEqual(await shares.evaluateAll((all) => all.map((one) => one.getAttribute("aria-valuenow"))), ["67", "33"]);
  await panel.go(page, "nodes");
  await untilFact(nodeRow(page, "node-test"), "redirects", "2");
  await untilFact(nodeRow(page, "node-test"), "packages", "1 / 1");
});

test("the key is shown once, asked of nodes from then on, and no more once it is removed", async (stage) => {
  const main = await stage.main();
  const page = await openMain(stage, main, { view: "nodes" });
  const asked = (tone) => page.locator(`#key-state[data-tone=${tone}]`).waitFor();
  await asked("none");
  const key = await makeKey(page);
  await asked("good");
  await page.reload();
  await asked("good");
  assert.ok(!(await page.locator("body").innerText()).includes(key));
  const node = await stage.node(main);
  await until("it is turned away", async () => /\b401\b/.test((await node.status()).heartbeat_error));
  assert.equal(await nodeRow(page, "node-test").count(), 0);
  node.configure({ ...node.config(), security: { mainServerKey: key } });
  await untilNode(page, "node-test", "reachable");
  const other = await stage.node(main, { nodeId: "node-other" });
  await until("the other one is turned away", async () => /\b401\b/.test((await other.status()).heartbeat_error));
  const removals = panel.counted(page, /^DELETE .*\/nodes\/key$/);
  await page.locator("#key-remove").click();
  await panel.answer(page, "no");
  await page.locator("#key-remove").click();
  await panel.answer(page, "yes");
  await asked("none");
  await untilNode(page, "node-other", "reachable");
  assert.equal(removals.count, 1, "only the second answer was a yes");
});

test("a new key ends the old one", async (stage) => {
  const main = await stage.main();
  const page = await openMain(stage, main, { view: "nodes" });
  const first = await makeKey(page);
  const node = await stage.node(main, { security: { mainServerKey: first } });
  await untilNode(page, "node-test", "reachable");
  const second = await makeKey(page);
  assert.notEqual(second, first);
  await until("the old one is refused", async () => /\b401\b/.test((await node.status()).heartbeat_error));
  node.configure({ ...node.config(), security: { mainServerKey: second } });
  await until("the new one is taken", async () => (await node.status()).heartbeat_error === null);
});
