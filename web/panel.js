// A plain page: shows the status every two seconds, saves the configuration,
// starts and stops the service. Texts from the main server are only ever put
// in as text.

const TEXTS = {
  en: {
    other: "中文", node: "Node", meetings: "Meetings", settings: "Configuration",
    title: "Title", id: "ID", state: "State", size: "Size", downloads: "Downloads",
    start: "Start service", stop: "Stop service", save: "Save changes",
    saved: "Saved.", unchanged: "Nothing was changed.", none: "no meetings",
    ask: "Stop the service? The node unregisters, and new downloads are refused until it is started again.",
    gone: "The node does not answer.", stopped: "The service is stopped.",
    away: "The main server does not answer. ", good: "All is well: ",
    broken: "Meetings without their current package: ",
    node_id: "Node ID", version: "Version", main_server: "Main server", connected: "Connected",
    address: "Address told to clients", sync_status: "Sync", storage: "Storage", traffic: "Downloads now / bytes served",
    yes: "yes", no: "no", not: "not registered",
    states: {
      waiting: "waiting", pulling: "pulling", verifying: "verifying", failing: "failing",
      synced: "ready", unconfirmed: "checking version", inactive: "not active",
    },
  },
  zh: {
    other: "English", node: "节点", meetings: "会议", settings: "配置",
    title: "标题", id: "会议 ID", state: "状态", size: "大小", downloads: "下载次数",
    start: "启动服务", stop: "停止服务", save: "保存修改",
    saved: "已保存。", unchanged: "没有修改。", none: "没有会议",
    ask: "确定停止服务吗？节点将从主控服务器注销，在重新启动之前拒绝新的下载。",
    gone: "节点没有响应。", stopped: "服务已停止。",
    away: "主控服务器没有响应。", good: "一切正常：",
    broken: "以下会议没有最新的会议包：",
    node_id: "节点 ID", version: "版本", main_server: "主控服务器", connected: "已连接",
    address: "告知客户端的地址", sync_status: "同步", storage: "存储", traffic: "正在下载 / 已发送",
    yes: "是", no: "否", not: "未注册",
    states: {
      waiting: "等待", pulling: "拉取中", verifying: "校验中", failing: "失败",
      synced: "就绪", unconfirmed: "核对版本", inactive: "未进行",
    },
  },
};

const REFRESH_MS = 2000;
const find = (id) => document.getElementById(id);
let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
let known = {};

const text = (key) => TEXTS[language][key];

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  find("language").textContent = text("other");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
}

function element(name, content, attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(content);
  return made;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

// The contract fixes the words of `sync_status`; in English they are said anew.
const SYNC_WORDS = [
  ["同步成功", "everything is synced"], ["同步中", "syncing"], ["未同步", "not synced yet"],
  ["同步失败", "sync failed"], ["同步出错", "sync error"],
];

function syncStatus(status) {
  const words = language === "zh" ? [] : SYNC_WORDS;
  return words.reduce((said, [zh, en]) => said.replace(zh, en), status.sync_status);
}

function health(status) {
  const faults = [status.config_error, status.storage.error, status.port_error].filter(Boolean);
  if (!status.running) return ["bad", text("stopped")];
  if (faults.length > 0) return ["bad", faults.join("; ")];
  if (!status.connected) return ["bad", text("away") + (status.heartbeat_error ?? status.main_server)];
  const broken = status.meetings.filter((meeting) => meeting.active && meeting.last_error);
  if (broken.length > 0) {
    return ["bad", text("broken") + broken.map((m) => `${m.title} (${m.id}): ${m.last_error}`).join("; ")];
  }
  if (status.warnings.length > 0) return ["bad", status.warnings.join("; ")];
  const failed = /失败|出错/.test(status.sync_status);
  return failed ? ["bad", syncStatus(status)] : ["good", text("good") + syncStatus(status)];
}

function showHealth([kind, sentence]) {
  const line = find("health");
  if (line.textContent === sentence) return;
  line.className = kind;
  line.textContent = sentence;
}

function facts(status) {
  const storage = `${bytes(status.storage.used)} / ${bytes(status.storage.limit)} (${status.storage.path})`;
  return [
    ["node_id", status.node_id],
    ["version", status.version],
    ["main_server", status.main_server],
    ["connected", status.connected ? text("yes") : text("no")],
    ["address", status.advertised_address ?? text("not")],
    ["sync_status", syncStatus(status)],
    ["storage", storage],
    ["traffic", `${status.downloads_under_way} / ${bytes(status.bytes_served)}`],
  ];
}

function meetingRow(meeting) {
  let state = text("states")[meeting.state] ?? meeting.state;
  if (meeting.state === "pulling" && meeting.total) {
    state += ` ${Math.floor((100 * meeting.received) / meeting.total)} %`;
  }
  const cell = element("td", state);
  if (meeting.last_error) cell.append(element("div", meeting.last_error, { className: "bad" }));
  const row = element("tr", element("td", meeting.title));
  row.append(element("td", meeting.id), cell);
  row.append(element("td", meeting.size === null ? "" : bytes(meeting.size)), element("td", String(meeting.downloads)));
  return row;
}

function show(status) {
  showHealth(health(status));
  find("facts").replaceChildren(
    ...facts(status).flatMap(([key, value]) => [element("dt", text(key)), element("dd", value)]),
  );
  const rows = status.meetings.map(meetingRow);
  const none = element("tr", element("td", text("none"), { colSpan: 5 }));
  find("meetings").replaceChildren(...(rows.length > 0 ? rows : [none]));
  find("start").disabled = status.running;
  find("stop").disabled = !status.running;
}

async function refresh() {
  try {
    const answer = await fetch("/api/status");
    show(await answer.json());
  } catch {
    showHealth(["bad", text("gone")]);
  }
}

// Sections become dotted keys: storage.path.
function flat(config) {
  return Object.entries(config).flatMap(([key, value]) =>
    value !== null && typeof value === "object"
      ? Object.entries(value).map(([inner, leaf]) => [`${key}.${inner}`, leaf])
      : [[key, value]],
  );
}

function field([key, value]) {
  const label = element("label", key);
  const input = document.createElement("input");
  input.name = key;
  input.disabled = key === "nodeId";
  if (typeof value === "boolean") {
    input.type = "checkbox";
    input.checked = value;
    label.prepend(input, " ");
  } else {
    const number = typeof value === "number" || key === "publicPort";
    input.type = number ? "number" : "text";
    if (number) input.step = "any";
    input.value = value ?? "";
    label.append(input);
  }
  return label;
}

async function loadSettings() {
  const answer = await fetch("/api/config");
  known = Object.fromEntries(flat(await answer.json()));
  find("fields").replaceChildren(...Object.entries(known).map(field));
}

function wanted(input) {
  if (input.type === "checkbox") return input.checked;
  if (input.value.trim() === "") return known[input.name] === null ? null : nullable(input.name);
  return input.type === "number" ? Number(input.value) : input.value;
}

const nullable = (name) => (name === "publicIp" || name === "publicPort" ? null : "");

// Only what was changed, so that nobody else's change is undone.
function changes() {
  const patch = {};
  for (const input of find("settings").querySelectorAll("input:enabled")) {
    const value = wanted(input);
    if (value === known[input.name]) continue;
    const [section, key] = input.name.split(".");
    if (key === undefined) patch[section] = value;
    else (patch[section] ??= {})[key] = value;
  }
  return patch;
}

function say(kind, sentence) {
  find("saved").className = kind;
  find("saved").textContent = sentence;
}

async function save(event) {
  event.preventDefault();
  const patch = changes();
  if (Object.keys(patch).length === 0) return say("", text("unchanged"));
  try {
    const body = JSON.stringify(patch);
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("/api/config", { method: "POST", headers, body });
    const { detail } = await answer.json();
    if (!answer.ok) return say("bad", detail);
    await loadSettings();
    say("good", text("saved"));
  } catch {
    say("bad", text("gone"));
  }
}

async function control(action) {
  try {
    await fetch(`/api/service/${action}`, { method: "POST" });
  } catch {
    showHealth(["bad", text("gone")]);
  }
  await refresh();
}

find("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  translate();
  refresh();
});
find("start").addEventListener("click", () => control("start"));
find("stop").addEventListener("click", () => confirm(text("ask")) && control("stop"));
find("settings").addEventListener("submit", save);

translate();
refresh();
loadSettings().catch(() => showHealth(["bad", text("gone")]));
setInterval(refresh, REFRESH_MS);
