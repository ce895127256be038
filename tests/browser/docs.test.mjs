// The page of the API, of a node and of a main server.

import assert from "node:assert/strict";

import { STRANGER, assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";
import { zip } from "./support/zip.mjs";

const DRESSES = {
  "wide, light, English": { locale: "en-US" },
  "wide, dark, Chinese": { locale: "zh-CN", dark: true },
  "360 px, light, Chinese": { locale: "zh-CN", width: 360, height: 740 },
  "360 px, dark, English": { locale: "en-US", width: 360, height: 740, dark: true },
};

const call = (page, id) => page.locator(`#${id}`);
const part = (page, id, name) => call(page, id).locator(`[data-part=${name}]`);
const field = (page, id, name) => call(page, id).locator(`[data-field="${name}"]`);
const send = (page, id) => call(page, id).locator("[data-action=send]").click();

async function openCall(page, id) {
  await call(page, id).locator("summary").first().click();
}

async function untilAnswered(page, id, status) {
  await part(page, id, "status").filter({ hasText: status }).waitFor();
}

const answerOf = async (page, id) => JSON.parse(await part(page, id, "body").innerText());

test("every call of a node is listed, and one that reads shows its answer and a line for curl", async (stage) => {
  const node = await stage.node(await stage.main());
  const page = await stage.open(node.url("/api/docs"));
  const { paths } = await node.json("/api/openapi.json");
  const calls = Object.values(paths).flatMap(Object.keys);
  await until("all are listed", async () => (await page.locator(".call").count()) === calls.length);

  await page.locator("#find").fill("get status");
  await until("they are filtered", async () => (await page.locator(".call:visible").count()) < 5);
  await openCall(page, "get_api_status");
  await send(page, "get_api_status");
  await untilAnswered(page, "get_api_status", "200");
  assert.equal((await answerOf(page, "get_api_status")).node_id, "node-test");
  assert.match(await part(page, "get_api_status", "headers").innerText(), /^content-type: application\/json$/m);
  assert.equal(await part(page, "get_api_status", "curl").innerText(), `curl '${node.url("/api/status")}'`);
});

test("a change asks first, is sent with its body, and its answer is shown", async (stage) => {
  const node = await stage.node(await stage.main());
  const page = await stage.open(node.url("/api/docs"));
  const id = "post_api_config";
  await openCall(page, id);
  await field(page, id, "body").fill('{"syncInterval": 7}');
  await send(page, id);
  await page.getByRole("dialog").locator("[data-answer=no]").click();
  assert.notEqual(node.config().syncInterval, 7);
  await send(page, id);
  await page.getByRole("dialog").locator("[data-answer=yes]").click();
  await untilAnswered(page, id, "200");
  assert.equal(node.config().syncInterval, 7);
  assert.match(await part(page, id, "curl").innerText(), /-X POST .*--data-raw '\{"syncInterval": 7\}'/);
});

test("a stranger is refused, and let in with the token, which no line for curl shows", async (stage) => {
  stage.allow(/the server responded with a status of 401/);
  const node = await stage.node(await stage.main());
  const page = await stage.open(node.url("/api/docs", STRANGER));
  await openCall(page, "get_api_config");
  await send(page, "get_api_config");
  await untilAnswered(page, "get_api_config", "401");
  const token = node.token();
  await page.locator("#token").fill(token);
  await send(page, "get_api_config");
  await untilAnswered(page, "get_api_config", "200");
  const line = await part(page, "get_api_config", "curl").innerText();
  assert.ok(line.includes('"Authorization: Bearer $TOKEN"') && !line.includes(token), line);
});

test("of a package only the beginning is read, and of an event stream a while", async (stage) => {
  const main = await stage.main();
  const node = await stage.node(main);
  await main.activate("m1", "Board", zip({ "agenda.txt": "x".repeat(5000) }));
  await node.untilSynced("m1");
  const page = await stage.open(node.url("/api/docs"));
  const download = "get_api_v1_meetings_id_download_package";
  await openCall(page, download);
  await send(page, download);
  assert.equal(await call(page, download).locator(".wrong").count(), 1, "it says that an id is needed");
  await field(page, download, "id").fill("m1");
  await send(page, download);
  await untilAnswered(page, download, "206");
  assert.match(await part(page, download, "headers").innerText(), /^content-range: bytes 0-1023\//m);
  const whole = call(page, download).locator("a[download]");
  assert.equal(await whole.getAttribute("href"), "/api/v1/meetings/m1/download-package");

  await openCall(page, "get_api_events");
  await send(page, "get_api_events");
  await untilAnswered(page, "get_api_events", "200");
  assert.match(await part(page, "get_api_events", "body").innerText(), /^event: status\n/);
});

for (const [name, dress] of Object.entries(DRESSES)) {
  test(`the page of the API is presentable: ${name}`, async (stage) => {
    const main = await stage.main();
    const node = await stage.node(main);
    const presentable = async (page, what) => {
      await stage.look(page, `${what}, ${name}`);
      await assertNoSidewaysScroll(page);
      await assertAccessible(page);
    };
    const page = await stage.open(node.url("/api/docs"), dress);
    await page.locator(".call").first().waitFor();
    await presentable(page, "API");
    for (const id of ["get_api_v1_meetings_id_download_package", "post_api_config", "get_api_status"]) {
      await openCall(page, id);
    }
    await send(page, "get_api_status");
    await untilAnswered(page, "get_api_status", "200");
    await presentable(page, "API, opened");
    await page.locator("#language").click();
    await page.locator(".call").first().waitFor();
    await presentable(page, "API, in the other language");

    const other = await stage.open(main.url("/api/docs"), dress);
    await openCall(other, "put_api_v1_meetings_id_package");
    await openCall(other, "post_api_v1_nodes_heartbeat");
    await send(other, "put_api_v1_meetings_id_package");
    await presentable(other, "API of a main server");
  });
}
