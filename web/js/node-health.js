// What the node's health line says while all is well, the numbers beside it,
// and where a problem's answer is to be found.

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";

export const isUnderWay = ({ state }) => state === "pulling" || state === "verifying";
export const isReady = ({ state }) => state === "synced" || state === "unconfirmed";

export function sentence({ meetings }) {
  const active = meetings.filter((meeting) => meeting.active);
  if (active.length === 0) return t("health.idle");
  return t(active.every(isReady) ? "health.good" : "health.busy");
}

export function numbers({ running, meetings, downloads_under_way: serving }) {
  const active = running ? meetings.filter((meeting) => meeting.active) : [];
  const of = { active: active.length, ready: active.filter(isReady).length, busy: meetings.filter(isUnderWay).length };
  return t("health.more", { ...of, serving });
}

const SETTINGS_OF = {
  main_server_unreachable: "mainServerIp",
  main_servers_unreachable: "mainServers",
  main_server_failover: "mainServers",
  poll_failed: "mainServerIp",
  storage_error: "storage.path",
  storage_nearly_full: "storage.maxSize",
  disk_nearly_full: "storage.path",
  port_error: "nodePort",
  address_unreachable: "publicIp",
  address_private: "publicIp",
  interface_missing: "advertiseInterface",
  heartbeat_slow: "heartbeat.interval",
  connections_per_client: "serve.maxConnectionsPerClient",
  open_access: "security.open",
};

export function linkOf({ code, meeting }) {
  const link = (href, text) => el("a", { href }, text, icon("link"));
  if (code === "meeting_failing") return link(`#/meetings/${encodeURIComponent(meeting)}`, t("link.meeting"));
  return code in SETTINGS_OF ? link(`#/config/${SETTINGS_OF[code]}`, t("link.setting")) : null;
}
