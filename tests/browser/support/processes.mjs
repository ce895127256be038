// The real binary as processes, each in a folder of its own.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { until } from "./until.mjs";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const TARGET = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target");
const BINARY = process.env.EDGE_MIRROR_BIN ?? join(TARGET, "debug/edge-mirror");
const LOOPBACK = "127.0.0.1";
const LOGIN = /#login=(\S+)/;
const LOG_TAIL_LINES = 60;

// Whatever ends this process ends them, too; and one that is left by a test
// whose time ran out must not keep this process from ending.
const alive = new Set();
const endAll = () => alive.forEach((child) => child.kill("SIGKILL"));
process.on("exit", endAll);
after(endAll);

/** One process after the other at one address, in one temporary folder. */
class Service {
  #child;
  #port = 0;
  #token;
  /** What all of them wrote to stderr and stdout. */
  log = "";

  constructor(folder) {
    this.folder = folder;
  }

  get port() {
    return this.#port;
  }

  url(path = "/", host = LOOPBACK) {
    return `http://${host}:${this.#port}${path}`;
  }

  /** What tells it its port: the same again once it had one. */
  listening() {
    return ["--port", String(this.#port)];
  }

  async start() {
    const from = this.log.length;
    const where = ["--host", LOOPBACK, ...this.listening()];
    // As if started by somebody whose environment is empty: no proxy above all.
    const env = { PATH: process.env.PATH };
    const child = spawn(BINARY, [...this.command, ...where], { env, stdio: ["ignore", "pipe", "pipe"] });
    let failure;
    const over = (why) => {
      failure ??= why;
      alive.delete(child);
    };
    child.on("error", (error) => over(`${BINARY} can't be run: ${error.message}`));
    child.on("exit", (code, signal) => over(`it ended with ${signal ?? code}:\n${this.log}`));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.log += text));
    }
    alive.add(child);
    this.#child = child;
    const line = /^.* - INFO - .*(?:is listening|main server listens) on 127\.0\.0\.1:(\d+)/m;
    const found = await until("the process listens", () => failure ?? line.exec(this.log.slice(from)));
    if (found === failure) throw new Error(failure);
    this.#port = Number(found[1]);
  }

  /** As kill -9 does; its folder stays for the next start. */
  async kill() {
    const child = this.#child;
    if (!alive.has(child)) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async json(path) {
    // A connection that is kept might belong to a process that was killed since.
    return (await fetch(this.url(path), { headers: { Connection: "close" } })).json();
  }

  /** The admin token, which nobody is told before somebody asks for one. */
  token() {
    return (this.#token ??= this.newToken());
  }

  /** What `edge-mirror token` on its machine makes: a code that logs in once. */
  oneTimeCode() {
    return this.#tokenCommand();
  }

  /** Ends the token of before and all logins. */
  newToken() {
    return (this.#token = this.#tokenCommand("--new"));
  }

  #tokenCommand(...flags) {
    const where = this.command.slice(1);
    return LOGIN.exec(execFileSync(BINARY, ["token", ...flags, ...where], { encoding: "utf8" }))[1];
  }

  /** For a test that failed: the log's end and what lies in the folder. */
  report() {
    const tail = this.log.trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
    const listing = execFileSync("ls", ["-lRA", this.folder], { encoding: "utf8" });
    return `--- log of ${this.command.join(" ")} ---\n${tail}\n--- ${listing}`;
  }

  async end() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function freshFolder() {
  return mkdtempSync(join(tmpdir(), "edge-mirror-browser-"));
}

export class NodeService extends Service {
  #ownPort;

  /**
   * A node of `main` (whatever has a port of this machine), quick where the
   * defaults are slow; `patch` is merged into its configuration. With a
   * `nodePort` there it listens at that one, else at whichever is free.
   */
  constructor(main, patch = {}) {
    super(freshFolder());
    const config = {
      // Ours and nobody else's: a node calls its main server at once.
      mainServerIp: LOOPBACK,
      mainServerPort: main.port,
      nodeId: "node-test",
      syncInterval: 1,
      // A pull that a test holds back is not to be given up meanwhile.
      network: { retryDelay: 0, connectionTimeout: 60 },
      heartbeat: { interval: 1, timeout: 3 },
      logging: { fileEnabled: false },
      shutdownGrace: 5,
    };
    this.#ownPort = "nodePort" in patch;
    this.configure(merged(config, patch));
    this.command = ["node", "--config", this.configPath];
  }

  // A port on the command line would hold against the configuration's.
  listening() {
    return this.#ownPort ? [] : super.listening();
  }

  get configPath() {
    return join(this.folder, "node_config.json");
  }

  /** The file as it is on the disk now. */
  config() {
    return JSON.parse(readFileSync(this.configPath, "utf8"));
  }

  /** Writes the file, as somebody does with an editor. */
  configure(config) {
    if (config.mainServerIp !== LOOPBACK) throw new Error(`no tests against ${config.mainServerIp}`);
    writeFileSync(this.configPath, `${JSON.stringify(config, null, 4)}\n`);
  }

  status() {
    return this.json("/api/status");
  }

  async meeting(id) {
    return (await this.status()).meetings.find((meeting) => meeting.id === id);
  }

  async untilSynced(id) {
    return until(`${id} is synced`, async () => {
      const meeting = await this.meeting(id);
      return meeting?.state === "synced" && meeting;
    });
  }
}

export class MainService extends Service {
  constructor(options = []) {
    super(freshFolder());
    const data = join(this.folder, "master-data");
    mkdirSync(data);
    this.command = ["master", "--data", data, ...options];
  }

  async #call(method, path, body, headers) {
    const answer = await fetch(this.url(`/api/v1${path}`), { method, body, headers });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  #json(path, body) {
    return this.#call("POST", path, JSON.stringify(body), { "Content-Type": "application/json" });
  }

  /** A meeting that waits; with a package where one is given. */
  async create(id, title, zip) {
    await this.#json("/meetings", { id, title });
    if (zip) await this.#call("PUT", `/meetings/${id}/package`, zip);
  }

  begin(id) {
    return this.#call("POST", `/meetings/${id}/start`);
  }

  finish(id) {
    return this.#call("POST", `/meetings/${id}/end`);
  }

  /** Makes a meeting, gives it a package and starts it. */
  async activate(id, title, zip) {
    await this.create(id, title, zip);
    await this.begin(id);
  }

  /** A node that is only said to be at this address. */
  register(node_id, address) {
    return this.#json("/nodes/register", { node_id, address, status: "online" });
  }

  /** The same from another machine; needs `--trusted-proxy 127.0.0.1`. */
  registerFrom(client, node_id, address) {
    const headers = { "Content-Type": "application/json", "X-Forwarded-For": client };
    return this.#call("POST", "/nodes/register", JSON.stringify({ node_id, address, status: "online" }), headers);
  }

  meeting(id) {
    return this.json(`/api/v1/meetings/${id}`);
  }

  overview() {
    return this.json("/api/v1/overview");
  }

  async node(id) {
    return (await this.overview()).nodes.find(({ node_id }) => node_id === id);
  }

  /** Until tablets that want this meeting are sent to this node. */
  async untilServedBy(id, node) {
    await until(`clients of ${id} are sent to ${node}`, async () => {
      const { reachable, packages } = await this.node(node);
      return reachable && packages.includes(id);
    });
  }

  /** Downloads as a tablet does, wherever it is sent; resolves to the bytes. */
  async download(id) {
    const answer = await fetch(this.url(`/api/v1/meetings/${id}/download-package`));
    if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${await answer.text()}`);
    return Buffer.from(await answer.arrayBuffer());
  }
}

/** A port that nobody listens at now, for what can't be told to take any. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, LOOPBACK, resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function merged(base, patch) {
  const result = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const section = value !== null && typeof value === "object" && !Array.isArray(value);
    result[key] = section ? merged(base[key] ?? {}, value) : value;
  }
  return result;
}
