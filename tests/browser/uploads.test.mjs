// Packages on their way to the main server: chosen, dropped, refused, broken off.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import { drop, slowUploads } from "./support/browser.mjs";
import { fact, notice, openMain, pick, press } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { bigZip, zip } from "./support/zip.mjs";

const SMALL = zip({ "agenda.txt": "first" });
const SIZE = 4 << 20;
// So slow that what is looked for lasts for seconds.
const PACE = 512 << 10;

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function meetings(stage, packages) {
  const main = await stage.main();
  for (const [id, bytes] of Object.entries(packages)) await main.create(id, `Meeting ${id}`, bytes);
  const page = await openMain(stage, main, { view: "meetings" });
  await panel.row(page, Object.keys(packages)[0]).waitFor();
  return { main, page };
}

/**
 * Until the progress of an upload is seen to advance by steps of less than half
 * a second, one after the other: news of the server, at most one a second, move
 * it in larger ones.
 */
async function untilUnderWay(page, id) {
  const bar = panel.row(page, id).getByRole("progressbar");
  let [last, small] = [0, 0];
  await until("the progress of the upload advances", async () => {
    const share = Number(await bar.getAttribute("value"));
    if (share > last) small = share - last < PACE / SIZE / 2 ? small + 1 : 0;
    last = share;
    return small >= 3;
  });
}

async function untilTaken(main, page, id, bytes) {
  await until("the package is on the server", async () => (await main.meeting(id)).sha256 === digest(bytes));
  assert.equal((await main.meeting(id)).size, bytes.length);
  await notice(page, "good").waitFor();
  const text = await panel.row(page, id).innerText();
  assert.doesNotMatch(text, /正在接收|being received|还没有会议包|no package yet/, "it is there");
  await panel.untilGone(panel.row(page, id).getByRole("progressbar"));
}

test("a package that is chosen is uploaded, and its progress seen, also after a look elsewhere", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null });
  const bytes = bigZip(SIZE);
  const pace = await slowUploads(page, PACE);
  await pick(page, panel.row(page, "m1"), { name: "papers.zip", bytes });
  await untilUnderWay(page, "m1");
  await stage.look(page, "main server, uploading");
  await panel.go(page, "overview");
  await panel.go(page, "meetings");
  await untilUnderWay(page, "m1");
  assert.equal((await main.meeting("m1")).size, null);
  await pace.lift();
  await untilTaken(main, page, "m1", bytes);
  await until("its size is shown", async () => /^4(\.0+)? MiB$/.test(await fact(panel.row(page, "m1"), "size").innerText()));
});

test("an upload's progress goes on in the other language", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null });
  const bytes = bigZip(SIZE);
  const pace = await slowUploads(page, PACE);
  await pick(page, panel.row(page, "m1"), { name: "papers.zip", bytes });
  await untilUnderWay(page, "m1");
  await page.locator("#language").click();
  await untilUnderWay(page, "m1");
  await pace.lift();
  await untilTaken(main, page, "m1", bytes);
});

test("a package that is dropped on a meeting is uploaded to it, and its progress seen", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null, m2: null });
  const bytes = bigZip(SIZE);
  const pace = await slowUploads(page, PACE);
  await drop(panel.row(page, "m2"), { name: "papers.zip", bytes });
  await untilUnderWay(page, "m2");
  assert.equal(await page.getByRole("dialog").count(), 0, "it is no new meeting");
  await pace.lift();
  await untilTaken(main, page, "m2", bytes);
  assert.equal((await main.meeting("m1")).size, null);
});

test("a package that is dropped beside the meetings begins a new one", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null });
  await drop(page.locator("#view h1"), { name: "Budget 2027.zip", bytes: SMALL });
  assert.equal(await page.locator("#new-title").inputValue(), "Budget 2027");
  await panel.answer(page, "yes");
  const made = await until("it is made", async () => (await main.overview()).meetings.find(({ title }) => title === "Budget 2027"));
  await untilTaken(main, page, made.id, SMALL);
  assert.equal((await main.meeting("m1")).size, null);
});

test("of several packages, each makes a meeting, and none is taken for another meeting's", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null });
  const files = ["first", "second"].map((name) => ({ name: `${name}.zip`, bytes: zip({ "agenda.txt": name }) }));
  await drop(panel.row(page, "m1"), ...files);
  await notice(page, "error").filter({ hasText: "2" }).waitFor();
  assert.equal((await main.meeting("m1")).size, null);
  await drop(page.locator("#view h1"), ...files);
  for (const name of ["first", "second"]) {
    await until(`the dialog for ${name}`, async () => (await page.locator("#new-title").inputValue()) === name);
    await page.getByRole("dialog").locator("[data-answer=yes]").click();
  }
  await until("both are made", async () => {
    const { meetings } = await main.overview();
    return files.every(({ name, bytes }) => meetings.some((one) => `${one.title}.zip` === name && one.sha256 === digest(bytes)));
  });
});

for (const [what, bytes, refused] of [
  ["a file that is no ZIP", Buffer.from("%PDF-1.7"), []],
  ["a file that only begins like a ZIP", SMALL.subarray(0, 40), [/status of 400 .*\/m1\/package/]],
]) {
  test(`${what} is refused with a message, and nothing changes`, async (stage) => {
    const { main, page } = await meetings(stage, { m1: SMALL });
    refused.forEach((line) => stage.allow(line));
    const before = await main.meeting("m1");
    await pick(page, panel.row(page, "m1"), { name: "minutes.zip", bytes });
    await notice(page, "error").filter({ hasText: /\S/ }).waitFor();
    await stage.look(page, `main server, ${what}`);
    await panel.row(page, "m1").locator("[data-action=upload]").waitFor();
    assert.deepEqual(await main.meeting("m1"), before);
  });
}

test("an upload that is cancelled changes nothing, and another one may begin", async (stage) => {
  const { main, page } = await meetings(stage, { m1: SMALL });
  const row = panel.row(page, "m1");
  const before = await main.meeting("m1");
  const pace = await slowUploads(page, PACE);
  await pick(page, row, { name: "papers.zip", bytes: bigZip(SIZE) });
  await untilUnderWay(page, "m1");
  await until("the server receives it", async () => (await main.overview()).meetings[0].uploading);
  await press(row, "cancel");
  await notice(page, "good").waitFor();
  await until("the server has given it up", async () => !(await main.overview()).meetings[0].uploading);
  assert.deepEqual(await main.meeting("m1"), before);
  await pace.lift();
  const next = zip({ "agenda.txt": "second" });
  await pick(page, row, { name: "papers.zip", bytes: next });
  await untilTaken(main, page, "m1", next);
});

test("another package for a running meeting is asked about first", async (stage) => {
  const { main, page } = await meetings(stage, { m1: SMALL });
  const row = panel.row(page, "m1");
  await main.begin("m1");
  await panel.untilState(page, "m1", "running");
  const next = zip({ "agenda.txt": "second" });
  const sent = panel.counted(page, /^PUT /);
  await pick(page, row, { name: "papers.zip", bytes: next });
  await panel.answer(page, "no");
  await pick(page, row, { name: "papers.zip", bytes: next });
  await panel.answer(page, "yes");
  await untilTaken(main, page, "m1", next);
  assert.equal(sent.count, 1, "only the second answer was a yes");
});

test("leaving while a package is on its way asks", async (stage) => {
  const { main, page } = await meetings(stage, { m1: null });
  const pace = await slowUploads(page, PACE);
  const bytes = bigZip(SIZE);
  await pick(page, panel.row(page, "m1"), { name: "papers.zip", bytes });
  await untilUnderWay(page, "m1");
  stage.answerDialog(false);
  await page.evaluate(() => location.reload());
  await pace.lift();
  await untilTaken(main, page, "m1", bytes);
});
