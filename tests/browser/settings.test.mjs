// The configuration as a form: what is typed, checked, saved, and changed by others.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

import { untilShown } from "./support/browser.mjs";
import * as panel from "./support/panel.mjs";
import { freePort } from "./support/processes.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const SAVE = /^POST \/api\/config$/;

async function openSettings(stage, how) {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await panel.openPanel(stage, node, { view: "config", ...how });
  await panel.setting(page, "syncInterval").waitFor();
  await panel.unfold(page);
  return { main, node, page };
}

const untilSaved = (page) => panel.untilGone(page.locator("#save-bar"));

test("a changed setting is in the file and in force, and nothing else was sent", async (stage) => {
  const { node, page } = await openSettings(stage);
  const before = node.config();
  const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/config"));
  await panel.field(page, "storage.maxSize").locator("select").selectOption("MiB");
  await panel.setting(page, "storage.maxSize").fill("2");
  await stage.look(page, "setting edited");
  await page.locator("#save").click();
  assert.deepEqual((await sent).postDataJSON(), { storage: { maxSize: 2 << 20 } });
  await untilSaved(page);
  const after = node.config();
  assert.equal(after.storage.maxSize, 2 << 20);
  assert.deepEqual({ ...after, storage: before.storage }, { ...before, storage: before.storage });
  await panel.go(page, "overview");
  await untilShown(page, /of 2 MiB/);
});

test("a node that is sent to another main server goes there", async (stage) => {
  const { main, node, page } = await openSettings(stage);
  await until("it is at the first one", () => main.heartbeats.has("node-test"));
  const other = await stage.slowMain();
  await panel.setting(page, "mainServerPort").fill(String(other.port));
  await panel.save(page);
  await untilSaved(page);
  assert.equal(node.config().mainServerPort, other.port);
  await until("it is at the other one", () => other.heartbeats.has("node-test"));
  await until("it has left the first one", () => !main.heartbeats.has("node-test"));
});

test("a value that the node refuses is said at its field, and not saved", async (stage) => {
  const { node, page } = await openSettings(stage);
  const saves = panel.counted(page, SAVE);
  const interval = panel.setting(page, "syncInterval");
  await interval.fill("0");
  await panel.wrong(page, "syncInterval").waitFor();
  assert.match(await panel.wrong(page, "syncInterval").innerText(), /3600/);
  assert.equal(await interval.getAttribute("aria-invalid"), "true");
  await stage.look(page, "setting refused");
  await panel.setting(page, "shutdownGrace").press("Enter");
  await until("the caret is in the field that is wrong", () => interval.evaluate((input) => input === document.activeElement));
  assert.equal(saves.count, 0);
  assert.equal(node.config().syncInterval, 1);
  await interval.fill("2");
  await panel.untilGone(panel.wrong(page, "syncInterval"));
  await page.locator("#save").click();
  await untilSaved(page);
  assert.equal(node.config().syncInterval, 2);
});

test("what only saving finds out is said at its field, too", async (stage) => {
  const { node, page } = await openSettings(stage);
  stage.allow(/status of 400/);
  // As if the rules had changed between the check and the saving.
  await page.route("**/api/config/check", (route) => route.fulfill({ json: { problems: [] } }));
  await panel.setting(page, "syncInterval").fill("0");
  await page.locator("#save").click();
  await panel.wrong(page, "syncInterval").waitFor();
  assert.equal(node.config().syncInterval, 1);
});

test("an edit of the file by somebody else appears at once, and takes nothing that is being typed", async (stage) => {
  const { node, page } = await openSettings(stage);
  await panel.setting(page, "shutdownGrace").fill("11");
  node.configure({ ...node.config(), syncInterval: 7 });
  await until("the new value is in the form", async () => (await panel.setting(page, "syncInterval").inputValue()) === "7");
  assert.equal(await panel.setting(page, "shutdownGrace").inputValue(), "11");
  node.configure({ ...node.config(), shutdownGrace: 12 });
  const choice = panel.field(page, "shutdownGrace").locator("[data-choose=theirs]");
  await choice.waitFor();
  await stage.look(page, "setting changed elsewhere");
  assert.equal(await panel.setting(page, "shutdownGrace").inputValue(), "11");
  await choice.click();
  await until("theirs is taken", async () => (await panel.setting(page, "shutdownGrace").inputValue()) === "12");
  await untilSaved(page);
});

test("a file with mistakes is said, and well again once it is mended", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const good = node.config();
  const page = await panel.openPanel(stage, node);
  await panel.untilWell(page);
  writeFileSync(node.configPath, "{");
  await panel.problem(page, "config_rejected").waitFor();
  node.configure(good);
  await panel.untilWell(page);
});

test("leaving with unsaved changes asks", async (stage) => {
  const { node, page } = await openSettings(stage);
  await panel.setting(page, "syncInterval").fill("9");
  await page.locator("#views [data-view=overview]").click();
  await panel.answer(page, "no");
  assert.equal(await panel.setting(page, "syncInterval").inputValue(), "9");
  stage.answerDialog(true);
  await page.reload();
  await panel.untilLive(page);
  await until("the reloaded form is as saved", async () => (await panel.setting(page, "syncInterval").inputValue()) === "1");
  await panel.setting(page, "syncInterval").fill("9");
  await page.locator("#views [data-view=overview]").click();
  await panel.answer(page, "yes");
  await panel.untilOn(page, "overview");
  assert.equal(node.config().syncInterval, 1);
});

test("a change that cuts connections says so, at its field and before it is saved", async (stage) => {
  const { node, page } = await openSettings(stage);
  const saves = panel.counted(page, SAVE);
  const port = node.config().nodePort;
  await panel.setting(page, "nodePort").fill("8099");
  await page.locator("#setting-nodePort-caution").waitFor();
  await page.locator("#save").click();
  await stage.look(page, "caution");
  await panel.answer(page, "no");
  await page.locator("#discard").click();
  await untilSaved(page);
  assert.equal(saves.count, 0);
  assert.equal(node.config().nodePort, port);
});

test("a single setting goes back to its default", async (stage) => {
  const { node, page } = await openSettings(stage);
  await page.locator(`[data-reset="syncInterval"]`).click();
  assert.equal(await panel.setting(page, "syncInterval").inputValue(), "10");
  await page.locator("#save").click();
  await untilSaved(page);
  assert.equal(node.config().syncInterval, 10);
  assert.equal(node.config().shutdownGrace, 5);
});

test("a node that moves to another port takes the page along", async (stage) => {
  const [before, after] = [await freePort(), await freePort()];
  const main = await stage.slowMain();
  const node = await stage.node(main, { nodePort: before });
  const page = await panel.openPanel(stage, node, { view: "config" });
  // The old port may close while the page still follows its events.
  stage.allow(new RegExp(`ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING).*:${before}/`));
  await panel.setting(page, "nodePort").fill(String(after));
  await panel.save(page);
  await page.waitForURL((url) => url.port === String(after));
  await panel.untilLive(page);
  await until("the form is that of the moved node", async () => (await panel.setting(page, "nodePort").inputValue()) === String(after));
  assert.equal(node.config().nodePort, after);
  await panel.go(page, "overview");
  await panel.untilWell(page);
});

test("what is saved in one tab is seen in the other", async (stage) => {
  const { node, page } = await openSettings(stage);
  const other = await stage.openBeside(page, page.url());
  const there = panel.setting(other, "syncInterval");
  await until("it is shown as it is", async () => (await there.inputValue()) === "1");
  await panel.setting(page, "syncInterval").fill("3");
  await page.locator("#save").click();
  await untilSaved(page);
  await until("the other tab has it", async () => (await there.inputValue()) === "3");
  assert.equal(await other.locator("#save-bar").isVisible(), false);
  assert.equal(node.config().syncInterval, 3);
});

test("a file that was broken meanwhile is not saved over, and what was edited is kept", async (stage) => {
  const { node, page } = await openSettings(stage);
  const good = node.config();
  const interval = panel.setting(page, "syncInterval");
  await interval.fill("9");
  writeFileSync(node.configPath, "{");
  await page.locator(".health[data-tone=error]").waitFor();
  assert.equal(await interval.inputValue(), "9");
  stage.allow(/status of 409 .*\/api\/config/);
  const answered = page.waitForResponse((response) => response.request().method() === "POST" && response.status() === 409);
  await page.locator("#save").click();
  await answered;
  const notice = page.locator("#notices [data-tone=error]");
  await notice.waitFor();
  assert.match(await notice.innerText(), /file.*fix/);
  assert.match(await notice.innerText(), /node_config\.json/);
  await stage.look(page, "file broken while edited");
  assert.equal(await interval.inputValue(), "9");
  assert.ok(await page.locator("#save-bar").isVisible());
  assert.equal(readFileSync(node.configPath, "utf8"), "{");
  node.configure(good);
  await panel.untilWell(page);
  assert.equal(await interval.inputValue(), "9");
  await page.locator("#save").click();
  await untilSaved(page);
  assert.deepEqual(node.config(), { ...good, syncInterval: 9 });
});

test("what few people need is folded away, and found by a word or a link", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const page = await panel.openPanel(stage, node, { view: "config" });
  const [common, rare] = [panel.setting(page, "syncInterval"), panel.setting(page, "network.retryCount")];
  await common.waitFor();
  assert.equal(await rare.isVisible(), false);
  await stage.look(page, "settings folded");
  const search = page.locator("#config-search");
  await search.fill("retryC");
  await rare.waitFor();
  assert.equal(await common.isVisible(), false);
  assert.match(await page.locator("#view [role=status]").first().innerText(), /1 setting found/);
  await stage.look(page, "settings found");
  await search.fill("no such setting");
  await panel.untilGone(rare);
  await search.fill("");
  await common.waitFor();
  assert.equal(await rare.isVisible(), false);
  await page.goto(node.url("/static/index.html#/config/network.retryCount"));
  await until("it is unfolded and has the focus", () => rare.evaluate((input) => input === document.activeElement && input.checkVisibility()));
});

test("a size is typed with its unit, and a host with its port", async (stage) => {
  const { node, page } = await openSettings(stage);
  const size = panel.setting(page, "storage.maxSize");
  await size.fill("50GB");
  await untilShown(page, /50,000,000,000 bytes/);
  await panel.setting(page, "network.bandwidth").fill("2 MiB/s");
  const { port } = await stage.slowMain();
  await panel.setting(page, "mainServerIp").fill(`http://127.0.0.1:${port}`);
  await panel.setting(page, "syncInterval").focus();
  await until("the port is in its own field", async () => (await panel.setting(page, "mainServerPort").inputValue()) === String(port));
  assert.equal(await panel.setting(page, "mainServerIp").inputValue(), "127.0.0.1");
  await panel.save(page);
  await untilSaved(page);
  const { storage, network, mainServerPort } = node.config();
  assert.deepEqual([storage.maxSize, network.bandwidth, mainServerPort], [5e10, 2 << 20, port]);
});

test("a save that fails does not stand under the success of the one before", async (stage) => {
  const { page } = await openSettings(stage);
  stage.allow(/status of 400/);
  await panel.setting(page, "syncInterval").fill("3");
  await panel.save(page);
  await page.locator("#notices [data-tone=good]").waitFor();
  await page.route("**/api/config/check", (route) => route.fulfill({ json: { problems: [] } }));
  await panel.setting(page, "syncInterval").fill("0");
  await page.locator("#save").click();
  await panel.wrong(page, "syncInterval").waitFor();
  assert.equal(await page.locator("#notices .notice").count(), 0);
});

test("limits by the hour are typed a line each, and a wrong one is named", async (stage) => {
  const { node, page } = await openSettings(stage);
  const schedule = panel.setting(page, "network.schedule");
  await schedule.fill("8:00-18:00 10 MB/s\n22:00-06:00 0");
  await panel.wrong(page, "network.schedule").waitFor();
  assert.match(await panel.wrong(page, "network.schedule").innerText(), /"22:00-06:00 0".*"off"/);
  await stage.look(page, "schedule refused");
  // As a Chinese keyboard types it.
  await schedule.fill("8：00－18：00 10 MB/s；22：00～06：00 off");
  await panel.untilGone(panel.wrong(page, "network.schedule"));
  await panel.save(page);
  await untilSaved(page);
  assert.deepEqual(node.config().network.schedule, ["8:00-18:00 10 MB/s", "22:00-06:00 off"]);
  await until("it is shown as the node says it", async () =>
    (await schedule.inputValue()) === "08:00-18:00 10MB\n22:00-06:00 off");
});

test("a key for the fleet is made up on request, shown until it is saved, and never again", async (stage) => {
  const { node, page } = await openSettings(stage);
  const [key, field] = [panel.setting(page, "relay.key"), panel.field(page, "relay.key")];
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  assert.equal(await field.locator("[data-action=copy]").isVisible(), false);
  await field.locator("[data-action=generate]").click();
  const first = await key.inputValue();
  await field.locator("[data-action=generate]").click();
  const made = await key.inputValue();
  assert.match(made, /^[A-Za-z0-9_-]{32}$/);
  assert.notEqual(made, first);
  assert.equal(await key.getAttribute("type"), "text");
  assert.match(await field.locator("output").innerText(), /Copy it now/);
  await field.locator("[data-action=copy]").click();
  await page.locator("#notices .notice").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), made);
  await stage.look(page, "key generated");
  await panel.save(page);
  await untilSaved(page);
  assert.equal(node.config().relay.key, made);
  await until("it is shown no more", async () => (await key.inputValue()) === "");
  assert.equal(await key.getAttribute("type"), "password");
  assert.equal(await field.locator("[data-action=copy]").isVisible(), false);
  await page.reload();
  await key.waitFor();
  assert.doesNotMatch(await page.content(), new RegExp(made));
  // Only the key that nodes choose themselves can be made up.
  assert.equal(await panel.field(page, "security.mainServerKey").locator("[data-action=generate]").isVisible(), false);
});

test("where the main server gives its nodes no key, the panel suggests one", async (stage) => {
  const node = await stage.node(await stage.slowMain());
  const status = await (await fetch(node.url("/api/status"))).json();
  const open = async (relay) => {
    const page = await stage.open("about:blank");
    const body = `event: status\ndata: ${JSON.stringify({ ...status, relay })}\n\n`;
    await page.route("**/api/events", (route) => route.fulfill({ contentType: "text/event-stream", body }));
    await page.goto(node.url("/static/index.html#/config"));
    await panel.setting(page, "relay.key").waitFor();
    return panel.field(page, "relay.key").locator(".suggestion");
  };
  const hint = await open({ key_missing: true });
  await hint.waitFor();
  assert.match(await hint.innerText(), /gives its nodes no key/);
  assert.equal(await (await open({ key_missing: false })).isVisible(), false);
});
