// Texts of the page of the listener for CastRay's clients, [中文, English].

import { s } from "./shared.js";

export default {
  castray: {
    title: ["CastRay 客户端", "CastRay clients"],
    what: ["CastRay 客户端在这里看到的节点、消息和传输。发送消息和文件请用它们自己的程序，或主控服务器的页面。", "The nodes, messages and transfers that clients of CastRay see here. Send messages and files with their own programs, or on the main server's page."],
    connecting: ["正在连接", "Connecting"],
    connected: ["已连接", "Connected"],
    away: ["连接已断开，正在重试", "Disconnected, trying again"],
    nodes: ["节点", "Nodes"],
    count: [(p) => `${p.n} 个，在线 ${p.active} 个`, (p) => `${s(p.n, "node")}, ${p.active} online`],
    rest: [(p) => `另有 ${p.n} 个节点没有列出`, (p) => `${s(p.n, "more node")} not listed`],
    activity: ["活动", "Activity"],
    running: ["在线", "Online"],
    stopped: ["离线", "Offline"],
    message: ["{sender} 发送了消息 {id}（{kind}）", "{sender} sent message {id} ({kind})"],
    transfer: ["{sender} 向 {names} 发送 {file}", "{sender} sends {file} to {names}"],
    automatic: ["{sender} 自动向 {names} 发送 {file}", "{sender} sends {file} to {names} by itself"],
    generated: [
      (p) => `${p.sender} 生成并发送了 ${p.file}：成功 ${p.done} / ${p.all}`,
      (p) => `${p.sender} made and sent ${p.file}: ${p.done} of ${p.all} succeeded`,
    ],
    more: [(p) => `${p.names} 等 ${p.n} 个`, (p) => `${p.names} and ${p.n - p.shown} more`],
    unicast: ["单播", "unicast"],
    multicast: ["组播", "multicast"],
    broadcast: ["广播", "broadcast"],
    column: {
      node: ["节点", "Node"],
      state: ["状态", "State"],
      sent: ["已发送", "Sent"],
      received: ["已收到", "Received"],
      transfers: ["传输成功", "Transfers"],
      failed: ["传输失败", "Failed"],
      bytes: ["传输的字节", "Bytes"],
      last: ["最近活动", "Last active"],
    },
  },
  empty: {
    castray: ["还没有节点", "No nodes yet"],
    "castray.why": ["客户端创建的节点，以及主控服务器的节点，会显示在这里。", "Nodes that clients create, and those of the main server, are shown here."],
    quiet: ["打开页面后还没有活动", "Nothing since this page was opened"],
    "quiet.why": ["今后发送的消息和文件会显示在这里。", "Messages and files that are sent from now on are shown here."],
  },
};
