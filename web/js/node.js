// The node's page: which views there are and where its events come from.

import { session } from "./api.js";
import { healthView } from "./views/health.js";
import nodeTexts from "./texts/node.js";
import { addTexts } from "./i18n.js";
import { Live } from "./live.js";
import { startShell } from "./shell.js";
import { sentence, numbers, linkOf } from "./node-health.js";
import { nodeView } from "./views/node.js";
import { meetingsView } from "./views/meetings.js";
import { trafficView } from "./views/traffic.js";
import { configView } from "./views/config.js";
import { logsView, logLines } from "./views/logs.js";

addTexts(nodeTexts);

const configShown = () => session.operator && document.body.dataset.view === "config";

const live = new Live({
  events: "/api/events",
  lists: { meetings: "id" },
  polls: [
    { event: "status", path: "/api/status", every: 2000 },
    { event: "traffic", path: "/api/traffic", every: 5000 },
    { event: "log", path: logLines.pollPath, every: 2000 },
    // Without a stream nobody tells when the configuration has changed.
    { event: "config", path: () => (configShown() ? "/api/config" : null), every: 10_000 },
  ],
});

live.addEventListener("log", ({ detail }) => logLines.take(Array.isArray(detail) ? { lines: detail } : detail));

startShell({
  live,
  brandOf: (status) => status?.node_id ?? "",
  health: (context) => healthView(context, { good: sentence, more: numbers, extra: linkOf, home: "overview" }),
  views: [
    { id: "overview", icon: "overview", create: nodeView },
    { id: "meetings", icon: "meetings", create: meetingsView },
    { id: "traffic", icon: "traffic", create: trafficView },
    { id: "config", icon: "config", operators: true, create: configView },
    { id: "logs", icon: "logs", operators: true, create: logsView },
  ],
});
