// Measures the main server's page in Chromium: when it paints first, when it shows what a
// view is for, and what a second's updates cost. No test: `node paint.mjs http://HOST:PORT`.

import { chromium } from "playwright-core";

const SHOWN = { overview: "[data-fact]", nodes: "[data-node]", meetings: "[data-meeting]" };
const SETTLE_MS = 3000;
const MEASURED_MS = 8000;

const [server] = process.argv.slice(2);
if (server === undefined) throw new Error("usage: node paint.mjs http://HOST:PORT");
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--no-proxy-server"] });
for (const [view, shown] of Object.entries(SHOWN)) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  await devtools.send("Performance.enable");
  const busy = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value;
  };
  const began = Date.now();
  await page.goto(`${server}/#/${view}`);
  await page.locator(shown).first().waitFor();
  const content = Date.now() - began;
  const [paint] = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map((entry) => entry.startTime));
  await page.waitForTimeout(SETTLE_MS);
  const before = await busy();
  await page.waitForTimeout(MEASURED_MS);
  const update = (1e6 * ((await busy()) - before)) / MEASURED_MS;
  console.log(`${view}: first paint ${Math.round(paint)} ms, content ${content} ms, updates ${Math.round(update)} ms of CPU a second`);
  await context.close();
}
await browser.close();
