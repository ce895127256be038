// The page of the listener for CastRay's clients.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { freePort } from "./support/processes.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

test("nodes and what they do are shown as it happens, in the language of the browser", async (stage) => {
  const port = await freePort();
  const main = await stage.main("--castray-port", String(port));
  const at = (path) => `http://127.0.0.1:${port}${path}`;
  const post = async (path, body) => {
    const answer = await fetch(at(path), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    assert.equal(answer.status, 200, await answer.text());
  };
  const phone = await stage.open(at("/ui"), { locale: "zh-CN", width: 360, height: 740, dark: true });
  await phone.getByText("还没有节点").waitFor();
  for (const id of ["alice", "bob"]) await post("/api/nodes", { node_id: id });
  const page = await stage.open(at("/ui"), { locale: "en-US" });
  await page.getByText("2 nodes, 2 online").waitFor();
  await page.locator("#connection[data-tone=good]").waitFor();
  await post("/api/send", { id: "m1", cast_type: "unicast", message_type: "text", content: "hello", sender: "alice", recipients: ["bob"] });
  await page.getByText("alice sent message m1 (unicast)").waitFor();
  await phone.getByText("alice 发送了消息 m1（单播）").waitFor();
  for (const shown of [page, phone]) {
    await until("both nodes are listed", async () => (await shown.locator("#nodes tr").count()) === 2);
    await assertNoSidewaysScroll(shown);
    await assertAccessible(shown);
  }
  await stage.look(page, "CastRay");
  await stage.look(phone, "CastRay on a phone");
  await page.locator("#language").click();
  await page.getByText("alice 发送了消息 m1（单播）").waitFor();
  stage.allow(/WebSocket connection to/);
  await main.kill();
  await page.locator("#connection[data-tone=error]").waitFor();
});
