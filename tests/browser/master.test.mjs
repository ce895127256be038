// The main server's page: what it shows, what its buttons do, who may use it.

import assert from "node:assert/strict";

import { STRANGER, untilShown } from "./support/browser.mjs";
import { fact, fillIn, notice, openAsStranger, openMain, pick, press } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "议程.txt": "第一项" });
const LANGUAGES = {
  "zh-CN": { tongue: "zh-CN", meetings: "会议" },
  "en-US": { tongue: "en", meetings: "Meetings" },
};

for (const [locale, { tongue, meetings }] of Object.entries(LANGUAGES)) {
  test(`a browser that asks for ${locale} gets the main server's page in that language`, async (stage) => {
    const main = await stage.main();
    await main.create("m1", "董事会 Board");
    const page = await openMain(stage, main, { view: "meetings", locale });
    await page.getByRole("heading", { name: meetings, exact: true }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), tongue);
    await untilShown(page, "董事会 Board");
    await page.locator("#language").click();
    const other = Object.values(LANGUAGES).find((language) => language.tongue !== tongue);
    await page.getByRole("heading", { name: other.meetings, exact: true }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: other.meetings, exact: true }).waitFor();
  });
}

test("a meeting is made, started, ended and deleted", async (stage) => {
  const main = await stage.main();
  const node = await stage.node(main, { cleanup: { enabled: false } });
  const page = await openMain(stage, main, { view: "meetings" });
  const row = panel.row(page, "m1");
  await page.locator("#create").click();
  await fillIn(page, { title: "Board", id: "m1", time: "Friday 14:00", file: { name: "papers.zip", bytes: PACKAGE } });
  await panel.answer(page, "yes");
  await panel.untilState(page, "m1", "waiting");
  await until("its package is there", async () => (await fact(row, "size").innerText()) === `${PACKAGE.length} B`);
  const { title, time, size } = await main.meeting("m1");
  assert.deepEqual({ title, time, size }, { title: "Board", time: "Friday 14:00", size: PACKAGE.length });
  await press(row, "start");
  await panel.untilState(page, "m1", "running");
  await until("the only node has it", async () => (await fact(row, "nodes").innerText()) === "1 / 1");
  assert.equal((await node.meeting("m1")).state, "synced");
  const calls = panel.counted(page, /^(POST .*\/m1\/end|DELETE .*\/m1)$/);
  await press(row, "end");
  await panel.answer(page, "no");
  await press(row, "end");
  await panel.answer(page, "yes");
  await panel.untilState(page, "m1", "ended");
  await until("the node knows", async () => (await node.meeting("m1")).state === "inactive");
  await press(row, "delete");
  await stage.look(page, "main server, delete");
  await panel.answer(page, "no");
  await press(row, "delete");
  await panel.answer(page, "yes");
  await panel.untilGone(row);
  assert.deepEqual((await main.overview()).meetings, []);
  assert.equal(calls.count, 2, "every second answer was a yes");
});

test("what is wrong with a new meeting is said at its field", async (stage) => {
  const main = await stage.main();
  await main.create("m1", "Board");
  const page = await openMain(stage, main, { view: "meetings" });
  stage.allow(/status of 409/);
  const dialog = page.getByRole("dialog");
  const agree = dialog.locator("[data-answer=yes]");
  const isWrong = (name) => dialog.locator(`#new-${name}[aria-invalid=true]`).waitFor();
  await page.locator("#create").click();
  await agree.click();
  await isWrong("title");
  await fillIn(page, { title: "Another", id: "m/1" });
  await agree.click();
  await isWrong("id");
  await dialog.locator("#new-id").fill("m1");
  const answered = page.waitForResponse((response) => response.status() === 409);
  await agree.click();
  await answered;
  await isWrong("id");
  assert.deepEqual((await main.overview()).meetings.map(({ title }) => title), ["Board"]);
  await dialog.locator("#new-id").fill("m2");
  await panel.answer(page, "yes");
  await panel.untilState(page, "m2", "waiting");
});

test("starting without a package asks, and is said until there is one", async (stage) => {
  const main = await stage.main();
  await stage.node(main);
  await main.create("m1", "Board");
  const page = await openMain(stage, main, { view: "meetings" });
  const row = panel.row(page, "m1");
  const starts = panel.counted(page, /^POST .*\/start$/);
  await press(row, "start");
  await panel.answer(page, "no");
  await press(row, "start");
  await panel.answer(page, "yes");
  await panel.untilState(page, "m1", "bare");
  assert.equal(starts.count, 1, "only the second answer was a yes");
  await panel.go(page, "overview");
  await panel.problem(page, "meeting_without_package").getByRole("link").click();
  await pick(page, row, { name: "papers.zip", bytes: PACKAGE });
  await panel.untilState(page, "m1", "running");
  await panel.untilWell(page);
});

test("a limit that was reached is put into words of its own", async (stage) => {
  const main = await stage.main();
  const body = JSON.stringify({ node_id: "n".repeat(1 << 20) });
  const refused = await fetch(main.url("/api/v1/nodes/heartbeat"), { method: "POST", body });
  assert.equal(refused.status, 413);
  for (const [locale, said] of [["zh-CN", /超过 1 MiB/], ["en-US", /more than 1 MiB/]]) {
    const page = await openMain(stage, main, { view: "overview", locale });
    await page.locator("#health").getByText(said).waitFor();
    await panel.problem(page, "limit_reached").getByText(locale === "zh-CN" ? "数千个" : "thousands").waitFor();
  }
});

test("the options that were set are listed with where they were set", async (stage) => {
  const page = await openMain(stage, await stage.main());
  await page.locator("details.options > summary").click();
  const row = page.locator("[data-option=data]");
  await row.waitFor();
  assert.match(await row.innerText(), /the command line/);
  assert.equal(await page.locator("[data-option=nodes]").count(), 0, "it has its default");
});

test("titles and names that are HTML are shown as the text that they are", async (stage) => {
  const main = await stage.main();
  const hostile = `<img src=x onerror="window.broken=1"><b>t</b>&amp;`;
  // Nobody is there to be reached: a problem with its name in it.
  await main.register(hostile, "127.0.0.1:9");
  await main.create("m1", hostile, PACKAGE);
  await main.activate("m2", `${hostile}2`);
  const page = await openMain(stage, main, { view: "meetings" });
  await untilShown(page, hostile);
  await press(panel.row(page, "m1"), "delete");
  await page.getByRole("dialog").getByText(hostile).waitFor();
  await panel.answer(page, "no");
  await pick(page, panel.row(page, "m1"), { name: `${hostile}.txt`.replaceAll("/", ""), bytes: Buffer.from("text") });
  await notice(page, "error").getByText("<img src=x").waitFor();
  await main.begin("m1");
  await main.download("m1");
  await panel.go(page, "traffic");
  await page.locator("#recent").getByText(hostile).waitFor();
  await panel.go(page, "nodes");
  await page.locator("#nodes").getByText(hostile).waitFor();
  await panel.go(page, "overview");
  for (const [code, name] of [["meeting_without_package", `${hostile}2`], ["node_unreachable", hostile]]) {
    await panel.problem(page, code).getByText(name).waitFor();
  }
  assert.equal(await page.evaluate(() => window.broken), undefined);
});

test("a main server that was killed is missed, and found again with what it had", async (stage) => {
  const main = await stage.main();
  await main.create("m1", "Board", PACKAGE);
  const page = await openMain(stage, main, { view: "meetings" });
  await panel.untilState(page, "m1", "waiting");
  stage.allow(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING/);
  await main.kill();
  await page.locator("#connection").waitFor();
  await page.locator(".health[data-tone=none]").waitFor();
  await stage.look(page, "main server killed");
  await main.start();
  await panel.untilGone(page.locator("#connection"));
  await panel.untilWell(page);
  await panel.untilState(page, "m1", "waiting");
  await main.begin("m1");
  await panel.untilState(page, "m1", "running");
});

test("a stranger sees nothing until the right token, and nothing any more after logging out", async (stage) => {
  const main = await stage.main();
  await main.create("m1", "Board");
  const page = await openAsStranger(stage, main, { view: "meetings", host: STRANGER });
  const logIn = async (token) => {
    await page.locator("#token").fill(token);
    await page.locator("#login").click();
  };
  assert.equal(await page.locator("#create, #meetings, #health").filter({ visible: true }).count(), 0);
  stage.allow(/status of 401 .*\/api\/login\)/);
  await logIn("not the token");
  await page.locator("#token[aria-invalid=true]").waitFor();
  assert.notEqual(await page.locator("#login-error").innerText(), "");
  assert.equal(await panel.row(page, "m1").count(), 0);
  await logIn(main.token());
  await panel.untilState(page, "m1", "waiting");
  await page.reload();
  await panel.untilState(page, "m1", "waiting");
  await page.locator("#logout").click();
  await page.locator("#token").waitFor();
  assert.equal(await panel.row(page, "m1").count(), 0);
  assert.equal(await page.locator("#create, #meetings, #health").filter({ visible: true }).count(), 0);
  await page.reload();
  await page.locator("#token").waitFor();
});

test("a link to the main server's page logs in once", async (stage) => {
  const main = await stage.main();
  const link = main.url(`/#login=${main.oneTimeCode()}`, STRANGER);
  const page = await stage.open(link);
  await page.locator("#logout").waitFor();
  await panel.untilLive(page);
  assert.doesNotMatch(page.url(), /login=/);
  stage.allow(/status of 401 .*\/api\/login\)/);
  const later = await stage.open(link);
  await later.locator("#login-error").filter({ hasText: /\S/ }).waitFor();
  assert.equal(await later.locator("#logout").count(), 0);
});
