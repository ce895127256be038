// The harness itself: what must not go unnoticed on a page is noticed.

import assert from "node:assert/strict";

import { assertAccessible, assertNoSidewaysScroll } from "./support/browser.mjs";
import { test } from "./support/stage.mjs";
import { until } from "./support/until.mjs";

for (const [what, wrong, trace] of [
  ["a warning on the console", () => console.warn("mind the gap"), /mind the gap/],
  ["an uncaught error", () => setTimeout(() => { throw new Error("torn"); }), /uncaught: Error: torn/],
  ["a rejection that nobody handles", () => void Promise.reject(new Error("torn")), /uncaught: Error: torn/],
  ["a request to a foreign server", () => void (new Image().src = "http://elsewhere.test/x"), /foreign server: http:..elsewhere.test/],
  ["a dialog that nobody expects", () => setTimeout(() => alert("hello")), /nobody expects: hello/],
]) {
  test(`${what} fails a test`, async (stage) => {
    const page = await stage.open("about:blank");
    await page.evaluate(wrong);
    await until("it is noticed", () => {
      assert.throws(() => stage.assertNoFaults(), trace);
      return true;
    });
    stage.allow(trace);
    stage.allow(/net::ERR/);
  });
}

test("a page wider than its window is noticed, and a table that scrolls by itself is not", async (stage) => {
  const page = await stage.open("about:blank", { width: 360 });
  const wide = `<p style="width: 400px">wide</p>`;
  await page.setContent(`<div style="overflow-x: auto">${wide}</div>`);
  await assertNoSidewaysScroll(page);
  await page.setContent(wide);
  await assert.rejects(assertNoSidewaysScroll(page), /the page is 4\d\d wide/);
  // What is cut off can't even be scrolled to.
  await page.setContent(`<div style="overflow-x: hidden">${wide}</div>`);
  await assert.rejects(assertNoSidewaysScroll(page), /width: 400px.*ends at 4/);
});

test("a field without a name and grey on grey are noticed", async (stage) => {
  const page = await stage.open("about:blank");
  const inPage = (body) => page.setContent(`<!doctype html><html lang="en"><title>t</title><main>${body}</main>`);
  await inPage(`<h1>Fine</h1><label>Name <input></label>`);
  await assertAccessible(page);
  await inPage(`<h1 style="color: #aaa; background: #999">Faint</h1><input>`);
  await assert.rejects(assertAccessible(page), (error) => /color-contrast/.test(error.message) && /label/.test(error.message));
});
