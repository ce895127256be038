// The page of the listener for CastRay's clients: the status as its WebSocket tells it.

const SHOWN_NODES = 500;
const SHOWN_LINES = 50;
const RECONNECT_MS = 3000;

const find = (id) => document.getElementById(id);

function row(node) {
  const stats = node.file_transfer_stats;
  const state = node.is_running ? "在线 / online" : "离线 / offline";
  const cells = [
    node.node_id, state, node.sent_count, node.received_count,
    stats.successful_transfers, stats.failed_transfers, stats.bytes_transferred,
  ];
  const line = document.createElement("tr");
  line.append(...cells.map((text) => {
    const cell = document.createElement("td");
    cell.textContent = String(text);
    return cell;
  }));
  return line;
}

function showStatus(status) {
  find("total").textContent = String(status.total_nodes);
  find("active").textContent = String(status.active_nodes);
  find("nodes").replaceChildren(...status.node_statuses.slice(0, SHOWN_NODES).map(row));
}

function showActivity(text) {
  const line = document.createElement("li");
  line.textContent = `${new Date().toLocaleTimeString()} ${text}`;
  const list = find("activity");
  list.prepend(line);
  while (list.childElementCount > SHOWN_LINES) {
    list.lastElementChild.remove();
  }
}

const DESCRIBED = {
  status_update: showStatus,
  transfer_activity: (data) => showActivity(data.description),
  message_received: (data) => showActivity(`消息 / Message ${data.message_id}: ${data.sender}`),
  file_generated_and_transferred: (data) => showActivity(`文件 / File ${data.file_name}: ${data.sender_id}`),
};

function connect() {
  const socket = new WebSocket(`ws://${location.host}/ws`);
  socket.onopen = () => {
    find("connection").textContent = "已连接 / Connected";
  };
  socket.onmessage = (event) => {
    const { type, data } = JSON.parse(event.data);
    DESCRIBED[type]?.(data);
  };
  socket.onclose = () => {
    find("connection").textContent = "连接已断开，稍后重试 / Disconnected, trying again";
    setTimeout(connect, RECONNECT_MS);
  };
}

connect();
