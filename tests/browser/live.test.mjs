// Where the node's event stream does not get through, the panel asks instead.

import assert from "node:assert/strict";

import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const PACKAGE = zip({ "agenda.txt": "first" });

// As a node answers that has too many streams.
const refused = (route) => route.fulfill({ status: 503, json: { detail: "too many" } });
const REFUSED = /status of 503 .*\/api\/events/;

/** The panel at one of its views, with something between its event stream and it. */
async function openHindered(stage, node, view, how) {
  const page = await stage.open("about:blank");
  await page.route("**/api/events", how);
  await page.goto(node.url(`/static/index.html#/${view}`));
  await page.locator("body[data-connection=polling]").waitFor();
  return page;
}

test("where the event stream is refused, changes are shown all the same", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main, { cleanup: { enabled: false } });
  stage.allow(REFUSED);
  const page = await openHindered(stage, node, "meetings", refused);
  main.activate("m1", "Board", PACKAGE);
  await panel.untilState(page, "m1", "synced");
  main.end("m1");
  await panel.untilState(page, "m1", "inactive");
  await panel.go(page, "logs");
  main.activate("m2", "Without a package");
  await page.locator("#log [data-level=WARNING]").filter({ hasText: "m2" }).first().waitFor();
  await panel.go(page, "config");
  await panel.setting(page, "syncInterval").waitFor();
  node.configure({ ...node.config(), syncInterval: 7 });
  await until("the form has it", async () => (await panel.setting(page, "syncInterval").inputValue()) === "7");
});

test("a node that is killed is missed without an event stream, too, and found again", async (stage) => {
  const main = await stage.slowMain();
  const node = await stage.node(main);
  stage.allow(REFUSED);
  const page = await openHindered(stage, node, "overview", refused);
  await panel.untilWell(page);
  stage.allow(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET/);
  await node.kill();
  await page.locator("#connection").waitFor();
  await node.start();
  await panel.untilGone(page.locator("#connection"));
  await panel.untilWell(page);
});

// What stands between a browser and a node does not always let a stream pass.
for (const [what, how] of [
  ["is cut off", (route) => route.abort("connectionreset")],
  ["is never answered", () => {}],
]) {
  test(`where the event stream ${what}, changes are shown all the same`, async (stage) => {
    const main = await stage.slowMain();
    const node = await stage.node(main);
    stage.allow(/ERR_CONNECTION_RESET .*\/api\/events/);
    const page = await openHindered(stage, node, "meetings", how);
    main.activate("m1", "Board", PACKAGE);
    await panel.untilState(page, "m1", "synced");
    assert.equal(await page.locator("#connection").isVisible(), false);
  });
}
