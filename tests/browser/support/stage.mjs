// What one test plays on: its servers, its nodes and its pages. All of it is
// gone when the test ends, and shown where the test failed.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as nodeTest } from "node:test";

import { openPage } from "./browser.mjs";
import { FakeNodes } from "./fake_nodes.mjs";
import { MainService, NodeService } from "./processes.mjs";
import { SlowMain } from "./slow_main.mjs";

// Above a few waits of `until`, so that those get to say what they waited for.
const BOUND_MS = 120_000;
// Pictures of failed tests; and of every `look`, where the variable asks for them.
const FAILURES = join(tmpdir(), "edge-mirror-browser-failures");
const LOOKS = process.env.SCREENSHOTS;

class Stage {
  #services = [];
  #scripted = [];
  #pages = [];
  #faults = [];
  #allowed = [];
  #dialogs = [];
  #notes;

  constructor(notes) {
    this.#notes = notes;
  }

  /** The real main server; `options` of its command line. */
  async main(...options) {
    return this.#started(new MainService(options));
  }

  /** One that does what it is told. */
  async slowMain() {
    const main = await SlowMain.start();
    this.#scripted.push(main);
    return main;
  }

  /** Nodes of this main server that say what they are told to. */
  async fakeNodes(main) {
    const nodes = await FakeNodes.of(main);
    this.#scripted.push(nodes);
    return nodes;
  }

  /** A node of this main server; `patch` goes into its configuration. */
  async node(main, patch) {
    return this.#started(new NodeService(main, patch));
  }

  async #started(service) {
    this.#services.push(service);
    await service.start();
    return service;
  }

  /** A page at this address, in a browser of its own; `how`: locale, width, height, dark, headers. */
  async open(url, how = {}) {
    const page = await openPage({ ...how, faults: this.#faults, dialogs: this.#dialogs });
    return this.#visit(page, url);
  }

  /** Another tab in the browser of this page. */
  async openBeside(page, url) {
    return this.#visit(await page.context().newPage(), url);
  }

  async #visit(page, url) {
    this.#pages.push(page);
    await page.goto(url);
    return page;
  }

  /** A complaint that this test brings about, such as a refused connection while the node is dead. */
  allow(pattern) {
    this.#allowed.push(pattern);
  }

  /** What to say to the next dialog of a page. */
  answerDialog(yes) {
    this.#dialogs.push(yes);
  }

  /** A line for whoever reads the tests' output. */
  note(line) {
    this.#notes.diagnostic(line);
  }

  /** A picture for people, where they ask for some. */
  async look(page, name) {
    if (LOOKS) await picture(page, LOOKS, name);
  }

  assertNoFaults() {
    const unexpected = this.#faults.filter((fault) => !this.#allowed.some((pattern) => pattern.test(fault)));
    assert.equal(unexpected.length, 0, `the pages did what they must not:\n${unexpected.join("\n")}`);
    assert.equal(this.#dialogs.length, 0, "a dialog that was expected did not come");
  }

  async report(name) {
    const seen = await Promise.all(this.#pages.map((page, n) => seenOn(page, `${name} ${n + 1}`)));
    const logs = this.#services.map((service) => service.report());
    const faults = `--- console and requests ---\n${this.#faults.join("\n") || "no complaints"}`;
    console.log([`=== ${name} ===`, ...seen, faults, ...logs].join("\n"));
  }

  async end() {
    // Pages of a browser that is gone can't be closed; the rest has to end all the same.
    await Promise.allSettled(this.#pages.map((page) => page.context().close()));
    await Promise.all(this.#services.map((service) => service.end()));
    await Promise.all(this.#scripted.map((main) => main.goAway()));
  }
}

async function seenOn(page, name) {
  const path = await picture(page, FAILURES, name).catch((error) => error.message);
  const text = await page.locator("body").innerText().catch((error) => error.message);
  return `--- ${page.url()}, picture ${path} ---\n${text}`;
}

async function picture(page, folder, name) {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${name.replaceAll(/[^\p{L}\p{N}]+/gu, "-")}.png`);
  await page.screenshot({ path, fullPage: true });
  return path;
}

/** A test of node:test whose body gets a stage of its own. */
export function test(name, body) {
  nodeTest(name, { timeout: BOUND_MS }, async (notes) => {
    const stage = new Stage(notes);
    try {
      await body(stage);
      stage.assertNoFaults();
    } catch (error) {
      await stage.report(name);
      throw error;
    } finally {
      await stage.end();
    }
  });
}
