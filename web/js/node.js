// The node's page: which views there are and where its events come from.

import { session } from "./api.js";
import { notify } from "./dialog.js";
import { addTexts, t } from "./i18n.js";
import { Live } from "./live.js";
import { linkOf, numbers, sentence } from "./node-health.js";
import { startShell } from "./shell.js";
import texts from "./texts/node.js";
import { configView } from "./views/config.js";
import { healthView } from "./views/health.js";
import { logLines, logsView } from "./views/logs.js";
import { meetingsView } from "./views/meetings.js";
import { nodeView } from "./views/node.js";
import { notices } from "./views/notices.js";
import { trafficView } from "./views/traffic.js";

// Time to read where the page goes.
const MOVE_MS = 1200;

addTexts(texts);

const configShown = () => session.operator && document.body.dataset.view === "config";

const live = new Live({
  events: "/api/events",
  lists: { meetings: "id" },
  polls: [
    { event: "status", path: "/api/status", every: 2000 },
    { event: "traffic", path: "/api/traffic", every: 5000 },
    { event: "log", path: logLines.pollPath, every: 2000 },
    { event: "notices", path: () => (session.operator ? "/api/notices" : null), every: 5000 },
    // Without a stream nobody tells when the configuration has changed.
    { event: "config", path: () => (configShown() ? "/api/config" : null), every: 10_000 },
  ],
});

live.addEventListener("notices", ({ detail }) => notices.take(detail));
live.addEventListener("log", ({ detail }) => logLines.take(Array.isArray(detail) ? { lines: detail } : detail));

// When the node listens on another port, the old one answers no more: its last
// word is where to go. A page that came through a proxy has a port of its own,
// and stays.
let port = null;
function moved(now) {
  const before = port;
  port = now;
  if (before === null || before === now || (location.port || "80") !== String(before)) return;
  notify(t("config.moving", { port: now }));
  const target = new URL(location.href);
  target.port = now;
  setTimeout(() => location.replace(target), MOVE_MS);
}
live.addEventListener("status", () => moved(live.status.node_port));
live.addEventListener("moved", ({ detail }) => moved(detail.port));

// In quotes where a shell would take the path apart.
const quoted = (path) => (/[^\p{L}\p{N}_./:\\-]/u.test(path) ? `"${path.replace(/["$`]/g, "\\$&")}"` : path);

startShell({
  live,
  brandOf: (status) => status?.node_id ?? "",
  command: (status) => `edge-mirror token${status ? ` --config ${quoted(status.config_file)}` : ""}`,
  health: (context) => healthView(context, { good: sentence, more: numbers, extra: linkOf, home: "overview" }),
  views: [
    { id: "overview", icon: "overview", create: nodeView },
    { id: "meetings", icon: "meetings", create: meetingsView },
    { id: "traffic", icon: "traffic", create: trafficView },
    { id: "config", icon: "config", operators: true, create: configView },
    { id: "logs", icon: "logs", operators: true, create: logsView },
  ],
});
