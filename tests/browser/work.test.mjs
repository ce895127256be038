// Remote tasks on the main server's page: run, seen on their way, failed and tried again,
// cancelled.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { notice, openMain } from "./support/main_page.mjs";
import * as panel from "./support/panel.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

const PATH = "/api/v1/nodes/tasks";
const press = (page, action) => page.locator(`#view [data-action=${action}]`).filter({ visible: true }).first().click();

// A node that does what it is told: `outcome(order)` ends a run, null lets it go on.
async function runner(main, id, outcome) {
  const types = [{
    name: "echo", title: "复述 / Echo", places: 2, repeatable: false,
    parameters: [{ name: "text", kind: "string", required: true }, { name: "count", kind: "integer" }],
  }];
  const runs = new Map();
  let number = 0;
  let version = 0;
  let over = false;

  async function exchange() {
    const body = { boot: "b", number: ++number, version, places: 2, types, runs: [...runs.values()] };
    const headers = { "Content-Type": "application/json", "Edge-Mirror-Node": id };
    const signal = AbortSignal.timeout(500);
    const answer = await fetch(main.url(PATH), { method: "POST", headers, body: JSON.stringify(body), signal });
    // Until it is accepted, which is once it is saved.
    if (answer.status === 403 && version === 0) return;
    assert.equal(answer.status, 200);
    const orders = await answer.json();
    version = orders.version;
    const name = (key) => JSON.stringify(key);
    for (const key of orders.taken) runs.delete(name(key));
    for (const key of orders.stop) runs.set(name(key), { key, state: "stopped" });
    for (const order of orders.start) {
      if (!runs.has(name(order.key))) runs.set(name(order.key), { key: order.key, state: "running", progress: 0.5, order });
    }
  }

  const rounds = async () => {
    while (!over) {
      for (const run of runs.values()) {
        const ended = run.order && run.state === "running" ? outcome(run.order) : null;
        if (ended) Object.assign(run, ended);
      }
      await exchange().catch((error) => error.name === "TimeoutError" || Promise.reject(error));
    }
  };
  const running = rounds();
  return { end: () => ((over = true), running) };
}

test("a task is run, seen on its way, tried again and cancelled", async (stage) => {
  const main = await stage.main();
  const nodes = await stage.fakeNodes(main);
  await nodes.beat("worker");
  let answer = null;
  const worker = await runner(main, "worker", (order) => answer?.(order) ?? null);
  const page = await openMain(stage, main, { view: "work", locale: "en-US" });
  await page.getByText("No remote tasks yet").waitFor();
  await page.locator("[data-worker=worker]").getByText("0 of 2 places in use").waitFor();
  await page.locator("#work-type option", { hasText: "Echo (echo)" }).waitFor({ state: "attached" });
  await page.locator("#work-text").fill("hello");
  await press(page, "run");
  const task = page.locator("[data-work]").first();
  await page.locator("[data-work][data-state=running]").waitFor();
  await page.locator("[data-details] [data-state=running]").getByText("worker").waitFor();
  await page.locator("[data-worker=worker]").getByText("1 of 2 places in use").waitFor();
  await stage.look(page, "main server, a remote task");
  answer = () => ({ state: "failed", error: "没有纸 / no paper" });
  await page.locator("[data-work][data-state=failed]").waitFor();
  await task.getByText("no paper").waitFor();
  answer = ({ parameters }) => ({ state: "succeeded", result: { said: parameters.text } });
  await press(page, "retry");
  await notice(page, "good").getByText("new task").waitFor();
  await page.locator("[data-work][data-state=succeeded]").waitFor();
  await page.locator("[data-details]").getByText('"said": "hello"').waitFor();
  answer = null;
  await page.locator("#work-text").fill("<b>again</b>");
  await press(page, "run");
  await page.locator("[data-work][data-state=running]").waitFor();
  await press(page, "cancel");
  await panel.answer(page, "yes");
  await page.locator("[data-work][data-state=cancelled]").waitFor();
  await page.locator("[data-filter=failed]").click();
  await until("one is left", async () => (await page.locator("[data-work]").count()) === 1);
  await assertAccessible(page);
  await assertNoSidewaysScroll(page);
  await worker.end();
});
