// Chromium, and what is asked of every page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after } from "node:test";

import { chromium } from "playwright-core";

import { BOUND_MS, until } from "./until.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/**
 * A name for loopback that does not look like it: whoever asks under it is a
 * stranger to the node, and not its operator.
 */
export const STRANGER = "panel.test";
const OURS = new Set(["127.0.0.1", STRANGER]);

// Of one fault that axe finds; more of the same tell nothing new.
const PLACES = 3;

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-proxy-server",
  // Every other name leads nowhere, whatever network the machine is in.
  `--host-resolver-rules=MAP ${STRANGER} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
];

let started;

/** One Chromium for all tests of a file, with user data that is thrown away. */
function browser() {
  started ??= chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
  return started;
}

after(async () => (await started)?.close());

/**
 * A page as a person would open it, in a browser that remembers nothing.
 * `faults` gathers what no page may do: complain on the console, throw, ask
 * a foreign server, open a dialog that `dialogs` has no answer for.
 */
export async function openPage(how) {
  const { locale = "en-US", width = 1280, height = 800, dark = false, headers = {}, faults, dialogs } = how;
  const context = await (await browser()).newContext({
    locale,
    extraHTTPHeaders: headers,
    viewport: { width, height },
    colorScheme: dark ? "dark" : "light",
  });
  context.setDefaultTimeout(BOUND_MS);
  context.on("page", (page) => listen(page, faults, dialogs));
  return context.newPage();
}

function listen(page, faults, dialogs) {
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    faults.push(`console ${message.type()}: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.stack}`));
  page.on("crash", () => faults.push("the page crashed"));
  page.on("request", (request) => {
    if (!isOurs(new URL(request.url()))) faults.push(`asked a foreign server: ${request.url()}`);
  });
  page.on("dialog", (dialog) => {
    const answer = dialogs.shift();
    if (answer === undefined) faults.push(`a dialog that nobody expects: ${dialog.message()}`);
    return answer ? dialog.accept() : dialog.dismiss();
  });
}

// What needs no server, such as a picture within the page, is nobody's.
function isOurs({ protocol, hostname }) {
  return hostname === "" ? ["data:", "blob:", "about:"].includes(protocol) : OURS.has(hostname);
}

/** Waits until somebody who looks at the page can read this: text or pattern. */
export async function untilShown(page, text) {
  const visible = page.getByText(text).filter({ visible: true }).first();
  await visible.waitFor().catch(async () => {
    const shown = await page.locator("body").innerText();
    assert.fail(`${text} is not shown within ${BOUND_MS / 1000} s, but:\n${shown}`);
  });
}

/** Fails where the page, or a part of it that does not scroll itself, is wider than the window. */
export async function assertNoSidewaysScroll(page) {
  const { width, culprits } = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX);
    const within = (element) => element && (scrolls(element) || within(element.parentElement));
    const culprits = [...document.body.querySelectorAll("*")]
      .filter((element) => element.checkVisibility())
      // A pixel, because boxes lie between pixels; hidden labels are of that size, too.
      .filter((element) => element.getBoundingClientRect().right > width + 1)
      .filter((element) => !within(element.parentElement))
      .map((element) => `${element.outerHTML.slice(0, 120)} ends at ${element.getBoundingClientRect().right}`);
    if (document.documentElement.scrollWidth > width) {
      culprits.unshift(`the page is ${document.documentElement.scrollWidth} wide`);
    }
    return { width, culprits };
  });
  assert.equal(culprits.length, 0, `wider than the window of ${width}:\n${culprits.join("\n")}`);
}

/** Fails with a list of what axe finds serious or critical. */
export async function assertAccessible(page) {
  // By the debugger, because the page's content security policy rightly lets in no script.
  const debug = await page.context().newCDPSession(page);
  await debug.send("Runtime.evaluate", { expression: AXE });
  await debug.detach();
  const { violations } = await page.evaluate(() => window.axe.run());
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const list = grave.map(({ id, impact, help, nodes }) => {
    const places = nodes.slice(0, PLACES).map(({ target, failureSummary, html }) =>
      `    ${target.join(" ")}: ${html.slice(0, 160)}\n      ${failureSummary.replaceAll("\n", "\n      ")}`);
    return `  ${impact} ${id}, ${nodes.length} times: ${help}\n${places.join("\n")}`;
  });
  assert.equal(grave.length, 0, `axe at ${page.url()}:\n${list.join("\n")}`);
}

/** Milliseconds from the start of the navigation to the first text or picture. */
export function paintTime(page) {
  return until("the page paints", () =>
    page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime));
}

/** What a page load has cost so far: requests, and their answers' bytes on the wire. */
export function loadCost(page) {
  return page.evaluate(() => {
    const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const fetched = entries.filter(({ name }) => name.startsWith("http"));
    return {
      requests: fetched.length,
      bytes: fetched.reduce((sum, entry) => sum + entry.transferSize, 0),
    };
  });
}

/** Drops a file onto an element, as from the desktop. */
export async function drop(target, ...files) {
  const transfer = await target.evaluateHandle(async (_, files) => {
    const carried = new DataTransfer();
    for (const { name, base64 } of files) {
      const content = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      carried.items.add(new File([content], name, { type: "application/zip" }));
    }
    return carried;
  }, files.map(({ name, bytes }) => ({ name, base64: bytes.toString("base64") })));
  for (const event of ["dragenter", "dragover", "drop"]) {
    await target.dispatchEvent(event, { dataTransfer: transfer });
  }
}

/** What the page sends goes out at this pace, so that there is something to see. */
export async function slowUploads(page, bytesPerSecond) {
  const debug = await page.context().newCDPSession(page);
  await debug.send("Network.enable");
  const pace = (uploadThroughput) =>
    debug.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput,
    });
  await pace(bytesPerSecond);
  return { lift: () => pace(-1) };
}
