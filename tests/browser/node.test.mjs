// A node's panel.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll, loadCost, paintTime, untilShown } from "./support/browser.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { bigZip, zip } from "./support/zip.mjs";

const PACKAGE = zip({ "议程.txt": "第一项" });

for (const [locale, sentence, tongue] of [
  ["zh-CN", "一切正常", "zh-CN"],
  ["en-US", "All is well", "en"],
]) {
  test(`a browser that asks for ${locale} gets the panel in that language`, async (stage) => {
    const main = await stage.main();
    const node = await stage.node(main);
    await main.activate("m1", "董事会 Board", PACKAGE);
    await node.untilSynced("m1");
    const page = await stage.open(node.url("/"), { locale });
    await untilShown(page, sentence);
    await untilShown(page, "董事会 Board");
    assert.equal(await page.locator("html").getAttribute("lang"), tongue);
    await stage.look(page, `node ${locale}`);
  });
}

test("a pull is seen to advance", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const size = 32 << 20;
  const meeting = main.activate("m1", "Board", bigZip(size));
  meeting.allow(size / 4);
  const page = await stage.open(node.url("/"));
  // The node counts in batches of 256 KiB: up to a percent less than was sent.
  await untilShown(page, /2[45] %/);
  meeting.allow(size / 4);
  await untilShown(page, /49 %|50 %/);
  meeting.open();
  await untilShown(page, "ready");
});

test("a pull that fails is named, and is well once it succeeds", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const meeting = main.activate("m1", "Board", PACKAGE);
  meeting.fail(500);
  const page = await stage.open(node.url("/"));
  await untilShown(page, /Meetings without their current package: Board/);
  meeting.mend();
  await untilShown(page, /All is well/);
});

test("a title that is HTML is shown as the text that it is", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const title = `<img src=x onerror="window.broken=1"><script>window.broken=1</script>&amp;`;
  main.activate("m1", title, PACKAGE);
  const page = await stage.open(node.url("/"));
  await untilShown(page, title);
  assert.equal(await page.evaluate(() => window.broken), undefined);
});

test("a node that was killed is missed, and found again when it is back", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await stage.open(node.url("/"));
  await untilShown(page, /All is well/);
  stage.allow(/ERR_CONNECTION_REFUSED/);
  stage.allow(/ERR_CONNECTION_RESET/);
  await node.kill();
  await untilShown(page, "The node does not answer.");
  await node.start();
  await untilShown(page, /All is well/);
});

test("a changed setting is in the file and in force", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await stage.open(node.url("/"));
  await page.getByLabel("storage.maxSize").fill("2097152");
  await page.getByRole("button", { name: "Save changes" }).click();
  await untilShown(page, "Saved.");
  assert.equal(node.config().storage.maxSize, 2097152);
  await untilShown(page, /\/ 2\.0 MiB/);
});

test("stopping asks first, and a stopped service can be started", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await stage.open(node.url("/"));
  const stop = page.getByRole("button", { name: "Stop service" });
  stage.answerDialog(false);
  await stop.click();
  assert.equal((await node.status()).running, true);
  stage.answerDialog(true);
  await stop.click();
  await untilShown(page, "The service is stopped.");
  assert.equal((await node.status()).running, false);
  await page.getByRole("button", { name: "Start service" }).click();
  await untilShown(page, /All is well/);
  await until("the main server hears it again", () => main.heartbeats.has("node-test"));
});

for (const dark of [false, true]) {
  test(`the ${dark ? "dark" : "light"} panel has no serious fault of accessibility`, async (stage) => {
    const main = await stage.slowMain();
    const node = await stage.node(main);
    main.activate("m1", "Board", PACKAGE);
    const page = await stage.open(node.url("/"), { dark });
    await untilShown(page, "ready");
    await page.getByLabel("storage.maxSize").waitFor();
    const scheme = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(scheme, dark ? "rgb(18, 23, 29)" : "rgb(244, 246, 248)");
    await assertAccessible(page);
  });
}

test("a telephone of 360 px needs no sideways scrolling", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  main.activate("m1", "A".repeat(200), PACKAGE);
  const page = await stage.open(node.url("/"), { width: 360, height: 740 });
  await untilShown(page, "ready");
  await page.getByLabel("storage.maxSize").waitFor();
  await stage.look(page, "node 360 px");
  await assertNoSidewaysScroll(page);
});

test("a first visit costs little", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  const page = await stage.open(node.url("/"));
  await untilShown(page, /All is well/);
  const painted = await paintTime(page);
  const { requests, bytes } = await loadCost(page);
  stage.note(`first paint after ${Math.round(painted)} ms; ${requests} requests, ${bytes} bytes`);
  assert.ok(bytes < 60 << 10, `${bytes} bytes`);
  assert.ok(requests < 30, `${requests} requests`);
});
