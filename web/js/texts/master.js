// Texts of the main server's page, [中文, English]. Some stand in for shared
// ones that speak of a node.

import { listed, s } from "./shared.js";

export default {
  brand: ["主控服务器", "Main server"],
  "away.name": ["主控服务器没有响应，正在自动重新连接。", "The main server does not answer; reconnecting by itself."],
  "error.gone": ["主控服务器没有响应，操作没有完成。请稍后再试。", "The main server did not answer; nothing was done. Try again in a moment."],
  login: {
    why: ["登录后可以创建和管理会议、上传会议包、查看节点。", "Operators can create and run meetings, upload packages and look after the nodes."],
    where: ["没有令牌？在运行主控服务器的机器上执行下面的命令，其中 DIR 换成数据文件夹：", "No token at hand? Run this on the main server's machine, with its data folder for DIR:"],
    address: [
      "这台设备的地址不在允许管理的范围内（--allow-from），不能登录。请换一台设备，或在运行主控服务器的机器上操作。",
      "The address of this device may not manage the main server (--allow-from), so logging in is not possible. Use another device or the main server's own machine.",
    ],
  },

  // Health
  health: {
    loading: ["正在读取主控服务器状态…", "Reading the main server's status…"],
    away: ["主控服务器没有响应，不知道现在的情况。", "The main server does not answer, so how it fares is not known."],
    good: ["一切正常，所有节点都有进行中会议的会议包。", "All is well. Every node has the running meetings' packages."],
    busy: ["一切正常，节点正在拉取会议包。", "All is well. Nodes are getting their packages."],
    more: [
      (n) => listed(`进行中的会议 ${n.running} 个`, `节点 ${n.nodes} 个`, n.busy && `本机正在发送 ${n.busy} 个下载`),
      (n) => listed(s(n.running, "running meeting"), s(n.nodes, "node"), n.busy && `${s(n.busy, "download")} from here under way`),
    ],
  },
  problem: {
    meeting_without_package: [
      (p) => `会议“${p.title || p.meeting}”正在进行，但没有会议包，平板下载不了。`,
      (p) => `“${p.title || p.meeting}” is running without a package, so tablets can't download it.`,
    ],
    "meeting_without_package.do": ["请为这个会议上传会议包，节点和平板随后会自动下载。", "Upload its package; nodes and tablets then get it by themselves."],
    no_nodes: ["有会议正在进行，但没有节点，所有平板都从主控服务器下载。", "A meeting is running and there are no nodes: every tablet downloads from this main server."],
    "no_nodes.do": ["请启动节点，并在节点的配置中填写本主控服务器的地址和端口。", "Start a node, with this main server's address and port in its settings."],
    node_unreachable: ["连接不上节点 {node}（{address}），平板不会被引导到那里。", "The node {node} can't be reached at {address}, so no tablets are sent there."],
    "node_unreachable.do": [
      "请检查节点所在机器的防火墙是否放行这个端口，以及节点配置中的公布地址是否正确。",
      "Check that the firewall on the node's machine lets this port through, and the public address in the node's settings.",
    ],
    "limit_reached.heartbeat_bytes": [
      "最近有请求因超过 1 MiB 或 100,000 个值而被拒绝，其中可能有节点的心跳。",
      "A request of more than 1 MiB or 100,000 values was refused lately; it may have been a node's heartbeat.",
    ],
    "limit_reached.heartbeat_bytes.do": [
      "如果有节点的会议多达数千个，请结束不再需要的会议；否则可能是陌生设备：请在“节点”页面设置密钥。",
      "If there are thousands of meetings, end those that are over. Otherwise it may be a stranger: require a key, under Nodes.",
    ],
    "limit_reached.nodes_bytes": [
      "节点上报的会议超过内存上限（共 96 MiB，单个地址四分之一）。有节点的会议列表没有保存，平板暂不会被引导到那里。",
      "Nodes report more meetings than are kept in memory (96 MiB, a quarter of it from one address). Some node's list was dropped, so no tablets are sent there.",
    ],
    "limit_reached.nodes_bytes.do": [
      "请结束不再需要的会议；也可能是陌生设备在上报：请在“节点”页面设置密钥。",
      "End meetings that are over. It may also be a stranger that reports them: require a key, under Nodes.",
    ],
    "limit_reached.nodes": [
      "节点已达上限 4,096 个，新节点被拒绝，已登记的节点不受影响。",
      "There are 4,096 nodes, and new ones are refused. Those already registered stay.",
    ],
    "limit_reached.nodes.do": [
      "可能有陌生设备在登记：请在“节点”页面设置密钥。",
      "Strangers may be registering: require a key, under Nodes.",
    ],
    "limit_reached.large_bodies": [
      "同时收到的大请求（超过 16 KiB）过多，有些被拒绝，其中可能有节点的心跳；节点 30 秒没有心跳就会被移除。",
      "Too many requests above 16 KiB came at once. Some were refused, heartbeats perhaps among them; a node without one for 30 s is dropped.",
    ],
    "limit_reached.large_bodies.do": [
      "可能有陌生设备在发送：请在“节点”页面设置密钥，或用防火墙限制访问。",
      "Strangers may be sending them: require a key, under Nodes, or restrict access with a firewall.",
    ],
    "limit_reached.new_nodes_per_client": [
      "同一地址的节点过多（每分钟最多新增 300 个，总共最多 1,024 个），多出的被拒绝，已登记的节点不受影响。",
      "One address has too many nodes (300 new ones a minute, 1,024 in all), and more are refused. Those already registered stay.",
    ],
    "limit_reached.new_nodes_per_client.do": [
      "如果近期没有同时启动大量节点，可能有陌生设备在登记：请在“节点”页面设置密钥。",
      "Unless many nodes have just been started, strangers may be registering: require a key, under Nodes.",
    ],
    "connections_per_client.do": ["如果许多平板在同一个 NAT 或反向代理后面，请在启动时用 --max-connections-per-client 调高上限。", "If many tablets share a NAT or proxy, start it with a higher --max-connections-per-client."],
    login_broken: ["现在无法从其他电脑登录：登录文件有问题。", "Nobody can log in from another machine: the login file is damaged."],
    "login_broken.do": ["在主控服务器所在机器上执行 edge-mirror token --new --data DIR，会重新生成该文件。", "On the main server's machine, run edge-mirror token --new --data DIR to recreate it."],
    open_access: ["任何能打开这个页面的人都可以管理会议（启动时使用了 --open）。", "Anyone who can open this page may manage meetings (it was started with --open)."],
    "open_access.do": ["如果不是有意为之，请去掉 --open 重新启动。", "Unless that is intended, restart it without --open."],
  },
  link: {
    meetings: ["查看会议", "See the meetings"],
    nodes: ["查看节点", "See the nodes"],
  },

  // Overview
  view: {
    nodes: ["节点", "Nodes"],
    relay: ["互传", "Spreading"],
    traffic: ["下载", "Downloads"],
  },
  storage: {
    free: ["磁盘剩余 {free}", "{free} free on the disk"],
    text: ["会议包占用 {used}，磁盘剩余 {free}。", "Packages take {used}; the disk has {free} left."],
  },
  tile: {
    running: ["进行中的会议", "Running meetings"],
    everywhere: ["{n} 个已到达所有节点", "{n} with every node"],
    all: ["共有 {n} 个会议", "{n:meeting} in all"],
    reached: ["可用节点", "Nodes in use"],
    cut: ["{n} 个连接不上", "{n} can't be reached"],
    heard: ["平板会被引导到它们", "tablets are sent to them"],
    own: ["另有 {n} 次由本机提供", "{n} more served from here"],
  },
  "address.own": ["这台机器在网络上的地址，端口 {port}", "this machine's address on the network, port {port}"],
  about: ["本主控服务器", "This main server"],
  fact: {
    address: ["地址和端口", "Address and port"],
    data: ["数据文件夹", "Data folder"],
    node_key: ["节点密钥", "Nodes' key"],
    bytes: ["字节数", "Bytes"],
    created: ["创建于", "Created"],
    begun: ["开始于", "Started"],
    ended: ["结束于", "Ended"],
    nodes: ["已有会议包的节点", "Nodes that have it"],
    reason: ["连接不上的原因", "Why not reached"],
    packages: ["已有的会议包", "Packages it has"],
    site: ["地点", "Site"],
  },
  first: {
    name: ["第一次使用", "Getting started"],
    node: ["连接节点", "Connect a node"],
    "node.how": ["在节点的配置中，填写主控服务器的地址和端口：{address}。", "In a node's settings, enter the main server's address and port: {address}."],
    meeting: ["创建会议并上传会议包", "Create a meeting and upload its package"],
    "meeting.how": ["会议包是一个 ZIP 文件，里面是会议的资料。", "A package is one ZIP file with the meeting's papers."],
    start: ["开始会议", "Start the meeting"],
    "start.how": ["节点会先拉取会议包，然后通知平板下载。", "Nodes get the package first; then tablets are told to download it."],
  },

  // Meetings
  create: {
    name: ["创建会议", "New meeting"],
    "title.of": ["创建会议", "New meeting"],
    title: ["标题", "Title"],
    "title.help": ["平板上显示的名称。", "The name that tablets show."],
    "title.wrong": ["请填写标题。", "Enter a title."],
    package: ["会议包（可选）", "Package (optional)"],
    "package.help": ["ZIP 文件；也可以以后再上传。", "A ZIP file; you may also upload it later."],
    time: ["时间（可选）", "Time (optional)"],
    "time.help": ["例如“周五 14:00”；不填则为现在的时间。", "Such as “Friday 14:00”; empty means now."],
    more: ["更多", "More"],
    id: ["会议 ID（可选）", "Meeting ID (optional)"],
    "id.help": ["任意文字，不能有 / 和 \\；不填则自动生成。", "Any text without / and \\; leave it empty to have one made up."],
    "id.wrong": ["最多 200 字节（约 66 个汉字），不能有 / 和 \\，也不能是 . 或 ..。", "Use 200 bytes at most, without / and \\; it can't be . or .. alone."],
    yes: ["创建", "Create"],
    done: ["会议已创建。", "The meeting was created."],
  },
  "drop.hint": ["可以把 ZIP 文件拖到会议上来上传，或拖到空白处来创建会议。", "Drop a ZIP file on a meeting to upload it, or beside them to make a new one."],
  empty: {
    meetings: ["还没有会议", "No meetings yet"],
    "meetings.why": ["点击“创建会议”，或把会议包（ZIP 文件）拖到这里。", "Press “New meeting”, or drop a package (a ZIP file) here."],
    "nomatch.why": ["请换一个查找内容。", "Look for something else."],
    nodes: ["还没有节点", "No nodes yet"],
    "nodes.why": ["启动一个节点，并在它的配置中把主控服务器的地址和端口设为本机的，它就会自动出现在这里。", "Start a node with this machine's address and port as its main server, and it appears here by itself."],
    shares: ["还没有下载", "No downloads yet"],
    "shares.why": ["会议开始后，平板的下载会分到各个节点。", "Once a meeting runs, tablets are spread over the nodes."],
    relays: ["没有正在传递的会议包", "No package is spreading"],
    "relays.why": ["会议开始后，这里会显示会议包怎样从一个节点传到另一个节点。", "Once a meeting runs, this shows how its package goes from node to node."],
    recent: ["还没有下载", "No downloads yet"],
    "recent.why": ["平板下载时，会在这里显示它被引导到了哪里。", "When a tablet downloads, it is shown here where it was sent."],
  },
  column: {
    files: ["文件数", "Files"],
    nodes: ["已有节点", "On nodes"],
    node: ["节点", "Node"],
    load: ["正在下载", "Load"],
    redirects: ["引导次数", "Redirects"],
    packages: ["会议包", "Packages"],
    heard: ["最近心跳", "Last heard"],
    time: ["时间", "Time"],
    target: ["客户端 → 去向", "Client → served by"],
  },
  state: {
    waiting: ["未开始", "Not started"],
    bare: ["进行中，缺会议包", "Running, no package"],
    starting: ["正在开始", "Starting"],
    "starting.why": ["节点就绪后通知平板。", "Tablets are told once they do."],
    running: ["进行中", "Running"],
    ended: ["已结束", "Ended"],
  },
  package: {
    none: ["还没有会议包", "no package yet"],
    missing: ["请上传会议包", "upload its package"],
    ready: ["会议包已上传，可以开始", "package uploaded, ready to start"],
  },
  nodes: {
    none: ["没有节点，平板从主控服务器下载。", "There are no nodes; tablets download from here."],
    have: ["{all} 个节点中有 {have} 个已有会议包。", ({ have, all }) => (have === 1 ? `1 of ${s(all, "node")} has it.` : `${have} of ${s(all, "node")} have it.`)],
  },
  spread: ["已有会议包的节点", "Nodes that have it"],
  action: {
    start: ["开始", "Start"],
    restart: ["重新开始", "Restart"],
    end: ["结束", "End"],
    upload: ["上传会议包", "Upload ZIP"],
    replace: ["更换会议包", "Replace ZIP"],
    cancel: ["取消上传", "Cancel"],
    delete: ["删除", "Delete"],
  },
  start: {
    title: ["没有会议包，仍要开始？", "Start without a package?"],
    bare: ["平板会收到通知，但在上传会议包之前下载不了。", "Tablets are told, but can't download anything until its package is uploaded."],
    done: ["会议已开始，节点就绪后通知平板。", "The meeting has started; tablets are told once the nodes are ready."],
  },
  end: {
    title: ["结束会议？", "End the meeting?"],
    what: ["平板不能再下载，节点随后会清理它的会议包。会议包保留在这里，会议可以重新开始。", "Tablets can't download it any more, and nodes clean it away. Its package stays here, and you can start it again."],
    done: ["会议已结束。", "The meeting has ended."],
  },
  delete: {
    title: ["删除会议？", "Delete the meeting?"],
    what: ["会议和它的会议包都会从主控服务器上删除，不能恢复。", "The meeting and its package are deleted from the main server. This can't be undone."],
    running: ["会议正在进行：平板将不能再下载。", "It is running: tablets can't download it any more."],
    done: ["会议已删除。", "The meeting was deleted."],
  },
  replace: {
    title: ["更换进行中会议的会议包？", "Replace a running meeting's package?"],
    what: ["所有节点和平板都会重新下载新的会议包。", "Every node and tablet downloads the new one."],
  },
  upload: {
    of: ["正在上传 {file}", "Uploading {file}"],
    checking: ["已上传，正在校验…", "Uploaded; checking it…"],
    elsewhere: ["正在接收会议包…", "A package is being received…"],
    done: ["“{title}”的会议包已上传。", "The package of “{title}” was uploaded."],
    cancelled: ["已取消上传，没有任何改动。", "The upload was cancelled; nothing was changed."],
    "no.zip": ["{file} 不是 ZIP 文件，没有上传。", "{file} is no ZIP file and was not uploaded."],
    failed: ["“{title}”的会议包没有上传成功：", "The package of “{title}” was not taken: "],
  },

  // Nodes
  reach: {
    reachable: ["可用", "In use"],
    "reachable.why": ["平板会被引导到这里", "tablets are sent here"],
    unreachable: ["连接不上", "Can't be reached"],
    "unreachable.why": ["平板不会被引导到这里；原因见详情", "no tablets are sent here; the details say why"],
    asking: ["正在检测", "Checking"],
    "asking.why": ["正在确认平板能否连接到这里", "finding out whether tablets can get there"],
  },
  "version.old": ["未知（旧版节点）", "unknown (a node of the old kind)"],
  key: {
    name: ["节点密钥", "Nodes' key"],
    on: ["需要", "Required"],
    off: ["不需要", "Not required"],
    "on.what": ["只有知道密钥的节点才能登记和发送心跳。", "Only nodes that know the key can register and report."],
    "off.what": ["网络上的任何程序都可以登记为节点。设置密钥后，只有知道密钥的节点才能登记。", "Any program on the network can register as a node. With a key, only nodes that know it can."],
    make: ["要求密钥", "Require a key"],
    renew: ["更换密钥", "New key"],
    remove: ["取消密钥", "Remove key"],
    "make.title": ["要求节点提供密钥？", "Require a key of nodes?"],
    "make.what": ["没有密钥的节点会在 30 秒内退出，直到填写密钥为止。", "Nodes without the key drop out within 30 s, until they are told it."],
    "make.then": ["接下来会显示一次密钥，请把它填到每个节点的配置中。", "The key is shown once, next; enter it in each node's settings."],
    "renew.title": ["更换节点密钥？", "Make a new key?"],
    "renew.what": ["旧密钥立即失效。没有新密钥的节点会在 30 秒内退出。", "The old one ends at once. Nodes without the new one drop out within 30 s."],
    "remove.title": ["取消节点密钥？", "Remove the key?"],
    "remove.what": ["此后网络上的任何程序都可以登记为节点，平板可能被引导到那里。", "Then any program on the network can register as a node, and tablets may be sent to it."],
    removed: ["不再需要密钥。", "Nodes need no key any more."],
    made: ["节点密钥", "The nodes' key"],
    once: ["请现在复制，关闭后不会再显示：", "Copy it now, it is not shown again:"],
    where: ["在每个节点的“配置”页中，填到“主控服务器密钥”（security.mainServerKey）。", "Enter it in each node's settings as the main server's key (security.mainServerKey)."],
    noted: ["我已保存", "I have it"],
  },

  // Spreading
  relay: {
    what: ["节点互相传递会议包，主控服务器只需发送一次。", "Nodes pass packages on to each other, so this main server sends each about once."],
    of: ["{title} 的进度", "Progress of {title}"],
    missing: ["{n} 个节点还没有", ({ n }) => `${s(n, "node")} without it`],
    depth: ["最多 {n} 级", ({ n }) => `at most ${s(n, "hop")}`],
    rest: ["另有 {n} 个节点没有显示。", "{n:more node} not shown."],
    waiting: ["等待拉取", "has not begun"],
    complete: ["已有会议包", "has it"],
    from: ["现在来自 {node}", "from {node} at present"],
  },

  // Downloads
  traffic: {
    chart: ["最近 15 分钟的下载（每 5 秒）", "Downloads of the last 15 minutes (per 5 seconds)"],
    redirects: ["引导到节点", "Sent to nodes"],
    own: ["由本机提供", "Served from here"],
  },
  total: {
    redirects: ["引导到节点的下载", "Downloads sent to nodes"],
    own_downloads: ["由本机提供的下载", "Downloads served from here"],
    under_way: ["本机正在发送", "From here under way"],
    bytes_served: ["本机已发送（含节点）", "Sent from here, to nodes too"],
  },
  "shares.title": ["下载去向", "Where downloads went"],
  "recent.title": ["最近的下载", "Latest downloads"],
  here: ["主控服务器", "this main server"],
};
