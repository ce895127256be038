// Who may use the panel: the machine's own browser, strangers, and those who log in.

import assert from "node:assert/strict";

import { STRANGER, untilShown } from "./support/browser.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });
// What the browser itself says of a refused login.
const REFUSED = /status of (401|429) .*\/api\/login\)/;

async function nodeWithMeeting(stage) {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  main.activate("m1", "Board", PACKAGE);
  await node.untilSynced("m1");
  return node;
}

async function logIn(page, token) {
  await page.locator("#token").fill(token);
  await page.locator("#login").click();
}

const untilLoggedIn = (page) => page.locator("#logout").waitFor();

test("on the machine itself nobody logs in or out", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node);
  await page.locator("#who").waitFor();
  assert.equal(await page.locator("#logout, #login-link").count(), 0);
  assert.ok(await page.locator("#stop").isVisible());
});

test("a stranger sees how things are and can change nothing", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node, { host: STRANGER });
  await panel.untilWell(page);
  await panel.assertNoButtons(page);
  await panel.go(page, "meetings");
  await panel.untilState(page, "m1", "synced");
  await panel.assertNoButtons(page);
  for (const view of ["config", "logs"]) {
    await panel.go(page, view);
    await page.locator("#token").waitFor();
    assert.equal(await page.locator("#config, #log").count(), 0);
  }
  await stage.look(page, "login");
});

test("a wrong token is refused and the right one lets in, until logging out", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node, { host: STRANGER, view: "config" });
  stage.allow(REFUSED);
  await logIn(page, "not the token");
  await untilShown(page, /not right/);
  await stage.look(page, "login wrong");
  assert.equal(await page.locator("#config").count(), 0);
  await logIn(page, node.token());
  await untilLoggedIn(page);
  await panel.setting(page, "syncInterval").waitFor();
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  await page.reload();
  await untilLoggedIn(page);
  await panel.setting(page, "syncInterval").waitFor();
  await page.locator("#logout").click();
  await page.locator("#token").waitFor();
  await page.reload();
  await page.locator("#token").waitFor();
  await panel.go(page, "overview");
  await panel.untilWell(page);
  await panel.assertNoButtons(page);
});

test("who logs out in one tab is logged out in the other", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node, { host: STRANGER, view: "config" });
  await logIn(page, node.token());
  await untilLoggedIn(page);
  const other = await stage.openBeside(page, page.url());
  await untilLoggedIn(other);
  // Both have read what they have to: a call that is under way would be refused.
  for (const tab of [page, other]) await panel.setting(tab, "syncInterval").waitFor();
  await page.locator("#logout").click();
  await other.locator("#token").waitFor();
});

test("a link made on the machine logs in once, and its code is in no address", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const code = node.oneTimeCode();
  const link = node.url(`/static/index.html#login=${code}`, STRANGER);
  const page = await stage.open(link);
  await untilLoggedIn(page);
  await page.locator("#stop").waitFor();
  assert.doesNotMatch(page.url(), new RegExp(code));
  const history = await page.evaluate(() => window.history.length);
  assert.ok(history <= 2, `${history} entries of history`);
  stage.allow(REFUSED);
  const later = await stage.open(link);
  await later.locator("#login-error").filter({ hasText: /used before/ }).waitFor();
  assert.doesNotMatch(later.url(), new RegExp(code));
});

test("many wrong tries have to wait, and the page says for how long", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node, { host: STRANGER, view: "config" });
  stage.allow(REFUSED);
  await until("it is slowed down", async () => {
    // First a look: a button that may not be pressed is waited for, and then
    // the countdown has gone.
    if (await page.locator("#login-error .countdown").isVisible()) return true;
    await logIn(page, "guess");
    await page.locator("#login-error").getByText(/./).first().waitFor();
    return false;
  });
  await stage.look(page, "login slowed down");
  assert.match(await page.locator("#login-error").innerText(), /\d+ sec/);
});

test("a new token ends the logins of before, also in a page that is open", async (stage) => {
  const node = await nodeWithMeeting(stage);
  const page = await panel.openPanel(stage, node, { host: STRANGER, view: "config" });
  const old = node.token();
  await logIn(page, old);
  await untilLoggedIn(page);
  await panel.setting(page, "syncInterval").waitFor();
  const renewed = node.newToken();
  await page.locator("#token").waitFor();
  assert.equal(await page.locator("#config, #logout").count(), 0);
  stage.allow(REFUSED);
  await logIn(page, old);
  await page.locator("#token[aria-invalid=true]").waitFor();
  await logIn(page, renewed);
  await untilLoggedIn(page);
  await panel.setting(page, "syncInterval").waitFor();
});

test("where everybody may do everything, a stranger may, and the panel warns of it", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main, { security: { open: true } });
  const page = await panel.openPanel(stage, node, { host: STRANGER });
  const warning = panel.problem(page, "open_access");
  await warning.waitFor();
  await page.locator(".health[data-tone=warning]").waitFor();
  await stage.look(page, "open to everybody");
  await page.locator("#stop").click();
  await panel.answer(page, "yes");
  await page.locator("#service-state[data-state=stopped]").waitFor();
  assert.equal((await node.status()).running, false);
  await panel.go(page, "config");
  // Who shuts the door on himself may ask for the configuration before he hears of it.
  stage.allow(/status of 401 .*\/api\/config\)/);
  await panel.setting(page, "security.open").click();
  await panel.save(page);
  // Which this visitor can't undo.
  await page.locator("#token").waitFor();
  assert.equal(node.config().security.open, false);
  await panel.go(page, "overview");
  await panel.untilGone(warning);
  await panel.assertNoButtons(page);
});

test("an address that may not manage the node is told so instead of asked to log in", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main, { security: { trustedProxies: ["127.0.0.1"], allowFrom: ["10.0.0.0/8"] } });
  const behindProxy = (address) => ({ host: STRANGER, view: "config", headers: { "x-forwarded-for": address } });
  const outside = await panel.openPanel(stage, node, behindProxy("203.0.113.7"));
  await outside.locator("#address-refused").waitFor();
  assert.equal(await outside.locator("#token").count(), 0);
  await stage.look(outside, "address refused");
  await panel.go(outside, "overview");
  await panel.untilWell(outside);
  await panel.assertNoButtons(outside);
  const inside = await panel.openPanel(stage, node, behindProxy("10.1.2.3"));
  await logIn(inside, node.token());
  await untilLoggedIn(inside);
  await panel.setting(inside, "syncInterval").waitFor();
});
