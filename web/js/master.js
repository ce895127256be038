// The main server's page: which views there are and where its events come
// from. All of it is for operators; others see the login form.

import { session } from "./api.js";
import { addTexts, t } from "./i18n.js";
import { Live } from "./live.js";
import { health } from "./master/health.js";
import { loadedView } from "./master/loaded.js";
import { meetingsView } from "./master/meetings.js";
import { nodesView } from "./master/nodes.js";
import { overviewView } from "./master/overview.js";
import { startShell } from "./shell.js";
import texts from "./texts/master.js";

addTexts(texts);

// Nothing is asked for without rights, and nothing stays on show when they end.
class OperatorsLive extends Live {
  start() {
    if (session.operator) return super.start();
    this.stop();
    this.status = null;
    this.samples = [];
  }
}

startShell({
  live: new OperatorsLive({
    events: "/api/v1/events",
    lists: { meetings: "id", nodes: "node_id", relays: "id", fleet: "id", pending: "id" },
    polls: [
      { event: "status", path: "/api/v1/overview", every: 2000 },
      { event: "traffic", path: "/api/v1/traffic", every: 5000 },
    ],
  }),
  brandOf: () => t("brand"),
  // Strangers are not told where the data is.
  command: () => "edge-mirror token --data DIR",
  health,
  views: [
    { id: "overview", icon: "overview", operators: true, create: overviewView },
    { id: "meetings", icon: "meetings", operators: true, create: meetingsView },
    { id: "nodes", icon: "nodes", operators: true, create: nodesView },
    { id: "relay", icon: "relay", operators: true, create: loadedView("relay", async () => (await import("./master/relay.js")).relayView) },
    { id: "messages", icon: "messages", operators: true, create: loadedView("messages", async () => (await import("./master/messages.js")).messagesView) },
    { id: "files", icon: "files", operators: true, create: loadedView("files", async () => (await import("./master/files.js")).filesView) },
    { id: "work", icon: "start", operators: true, create: loadedView("work", async () => (await import("./master/work.js")).workView) },
    { id: "traffic", icon: "traffic", operators: true, create: loadedView("traffic", async () => (await import("./master/traffic.js")).trafficView) },
    { id: "history", icon: "logs", operators: true, create: loadedView("history", async () => (await import("./master/history.js")).historyView) },
  ],
});
