// Nodes that only say what a test wants them to: each is found at a loopback address of
// its own, behind one server.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

export class FakeNodes {
  #main;
  #server;
  #ids = new Map(); // address -> node id
  #saidBy = new Map(); // node id -> its heartbeat
  #timer;

  static async of(main) {
    const nodes = new FakeNodes();
    nodes.#main = main;
    nodes.#server = createServer((request, response) => {
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify({ node_id: nodes.#ids.get(request.socket.localAddress) }));
    });
    await new Promise((resolve) => nodes.#server.listen(0, "0.0.0.0", resolve));
    // Who is silent for 30 s is dropped.
    nodes.#timer = setInterval(() => nodes.#repeat().catch(() => {}), 10_000);
    return nodes;
  }

  /** A heartbeat: `has` are packages by id, the rest is as nodes report it. */
  async beat(node_id, { site = "", has = {}, pulls = [], failed = [], downloads = 0, ended } = {}) {
    if (!this.#saidBy.has(node_id)) {
      const n = this.#saidBy.size + 2;
      this.#ids.set(`127.0.${n >> 8}.${n & 255}`, node_id);
    }
    const [host] = [...this.#ids].find(([, id]) => id === node_id);
    const packages = Object.entries(has).map(([id, bytes]) => ({ id, sha256: digest(bytes) }));
    const relay = { address: `${host}:${this.#server.address().port}`, site, max_children: 4 };
    const said = {
      node_id, address: relay.address, status: "online", active_meetings: [], synced_meetings: Object.keys(has),
      mirror: { version: "1", downloads, ended, free_bytes: 1, packages, pulls, relay, failed_pulls: failed },
    };
    this.#saidBy.set(node_id, said);
    await this.#send(said);
  }

  async #repeat() {
    for (const said of this.#saidBy.values()) await this.#send(said);
  }

  async #send(said) {
    const answer = await fetch(this.#main.url("/api/v1/nodes/heartbeat"), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said),
    });
    if (!answer.ok) throw new Error(`${said.node_id}: ${answer.status} ${await answer.text()}`);
  }

  async goAway() {
    clearInterval(this.#timer);
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
