// A main server that does what a test tells it: packages whose bytes come as
// slowly as wanted, pulls that fail, titles that nobody should have. It speaks
// the newest shapes of the wire contract and no more of it than a node asks.

import { createServer } from "node:http";

// Small beside any package, so that a valve that lets through a share of one
// lets through just about that.
const PIECE_BYTES = 64 << 10;

/** Holds bytes back until they are let through. */
class Valve {
  #allowed = Infinity;
  #passed = 0;
  #waiting = new Set();

  /** From now on, so many bytes and then none. */
  allow(bytes) {
    this.#allowed = this.#passed + bytes;
    this.#wake();
  }

  open() {
    this.allow(Infinity);
  }

  /** How many of these may pass now; waits until there is one. */
  async take(wanted) {
    while (this.#passed >= this.#allowed) {
      await new Promise((resolve) => this.#waiting.add(resolve));
    }
    const taken = Math.min(wanted, this.#allowed - this.#passed);
    this.#passed += taken;
    return taken;
  }

  #wake() {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

class Meeting {
  constructor(id, title, zip) {
    Object.assign(this, { id, title, zip, active: true, failing: null });
    this.valve = new Valve();
    this.changed = new Date();
  }

  // As the real one does, unquoted.
  get tag() {
    return `${this.id}-${this.changed.getTime()}-${this.zip.length}`;
  }

  get packageUrl() {
    return `/uploads/packages/${encodeURIComponent(this.id)}_pdfs.zip`;
  }

  /** Pulls are answered with this status from now on. */
  fail(status) {
    this.failing = status;
  }

  /** Pulls succeed from now on. */
  mend(zip = this.zip) {
    this.zip = zip;
    this.failing = null;
  }

  /** The next bytes of its package that go out, and then none. */
  allow(bytes) {
    this.valve.allow(bytes);
  }

  /** Everything goes out as fast as it can. */
  open() {
    this.valve.open();
  }
}

export class SlowMain {
  #server = createServer((request, response) => {
    this.#answer(request, response).catch((error) => {
      // A node that hangs up in the middle of a package is nothing new.
      if (!response.destroyed) response.writeHead(500).end(String(error));
    });
  });
  #meetings = new Map();
  #token = 1;
  /** Addresses of the nodes, by their ids. */
  registered = new Map();
  /** What the nodes said last, by their ids. */
  heartbeats = new Map();

  static async start() {
    const main = new SlowMain();
    await main.#listen(0);
    main.port = main.#server.address().port;
    return main;
  }

  async #listen(port) {
    await new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    // A test whose time ran out leaves it behind; that must keep nobody waiting.
    this.#server.unref();
  }

  /** Starts a meeting. Without a ZIP its package could not be made: pulls fail with 500. */
  activate(id, title, zip) {
    const meeting = new Meeting(id, title, zip ?? Buffer.alloc(0));
    if (zip === undefined) meeting.fail(500);
    this.#meetings.set(id, meeting);
    this.#token += 1;
    return meeting;
  }

  end(id) {
    this.#meetings.get(id).active = false;
    this.#token += 1;
  }

  /** Closes the port and every connection. */
  async goAway() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  /** At the same address. */
  async comeBack() {
    await this.#listen(this.port);
  }

  #active() {
    return [...this.#meetings.values()].filter((meeting) => meeting.active);
  }

  async #answer(request, response) {
    const body = await read(request);
    const { pathname } = new URL(request.url, "http://main");
    const [, id, direct] = /^\/api\/v1\/meetings\/([^/]+)\/(download-package-direct)$/.exec(pathname) ?? [];
    if (direct) return this.#direct(this.#meetings.get(decodeURIComponent(id)), response);
    if (pathname.startsWith("/uploads/")) return this.#offered(request, pathname, response);
    const answer = this.#json(`${request.method} ${pathname}`, body);
    send(response, answer === undefined ? 404 : 200, answer ?? { detail: "Not Found" });
  }

  #json(call, body) {
    const timestamp = Date.now() / 1000;
    switch (call) {
      case "POST /api/v1/nodes/register":
        this.registered.set(body.node_id, body.address);
        return { status: "success", message: `Node ${body.node_id} registered` };
      case "POST /api/v1/nodes/heartbeat":
        this.heartbeats.set(body.node_id, body);
        return { status: "success", timestamp };
      case "POST /api/v1/nodes/unregister":
        this.heartbeats.delete(body.node_id);
        return { status: "success", message: `Node ${body.node_id} unregistered` };
      case "GET /api/v1/nodes/list":
        return [...this.registered].map(([node_id, address]) => ({ node_id, address, status: "online" }));
      case "GET /api/v1/meetings/status/node": {
        const active_meetings = this.#active().map(({ id, title }) => ({ id, title }));
        return { id: String(this.#token), active_meetings, timestamp };
      }
      case "GET /api/v1/meetings/active/meetings":
        return this.#active().map((meeting) => ({
          id: meeting.id,
          title: meeting.title,
          time: "09:00",
          status: "进行中",
          // Offered though it is lost: a node waits for one that is not offered.
          package_url: meeting.packageUrl,
        }));
    }
  }

  async #offered(request, pathname, response) {
    const meeting = this.#active().find((candidate) => candidate.packageUrl === pathname);
    if (!meeting || meeting.zip.length === 0) return send(response, 404, { detail: "Not Found" });
    const headers = {
      "Content-Type": "application/zip",
      ETag: meeting.tag,
      "Last-Modified": meeting.changed.toUTCString(),
    };
    if (request.headers["if-none-match"] === meeting.tag) return response.writeHead(304, headers).end();
    if (meeting.failing) return send(response, meeting.failing, { detail: "会议包不存在" });
    response.writeHead(200, { ...headers, "Content-Length": meeting.zip.length });
    if (request.method === "HEAD") return response.end();
    await pour(meeting, response);
  }

  async #direct(meeting, response) {
    if (!meeting) return send(response, 404, { detail: "会议不存在" });
    if (meeting.failing) return send(response, meeting.failing, { detail: "会议包不存在" });
    // Chunked, as the real one's.
    response.writeHead(200, { "Content-Type": "application/zip" });
    await pour(meeting, response);
  }
}

async function pour({ zip, valve }, response) {
  let sent = 0;
  while (sent < zip.length && !response.destroyed) {
    const size = await valve.take(Math.min(PIECE_BYTES, zip.length - sent));
    const piece = zip.subarray(sent, sent + size);
    sent += size;
    await new Promise((resolve) => response.write(piece, resolve));
  }
  response.end();
}

async function read(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const text = Buffer.concat(pieces).toString();
  return text === "" ? undefined : JSON.parse(text);
}

function send(response, status, answer) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
}
