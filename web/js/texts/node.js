// Texts of the node's page, [中文, English].

import { listed, s } from "./shared.js";

const since = ({ since }) => since && `自 ${since} 起`;
const why = ({ cause }) => cause && `（${cause}）`;
const because = ({ cause }) => cause && `: ${cause}`;

export default {
  "away.name": ["节点没有响应，正在自动重新连接。", "The node does not answer; reconnecting by itself."],
  "error.gone": ["节点没有响应，操作没有完成，请稍后再试。", "The node did not answer. Try again in a moment."],
  login: {
    why: ["登录后可以启停服务、管理会议包、修改配置、查看日志。", "Operators can start and stop the service, manage packages, change settings and read the logs."],
    where: ["没有令牌？在运行节点的机器上执行：", "No token at hand? Run this on the machine of the node:"],
    address: ["这台设备的地址不能管理本节点（security.allowFrom）。请换一台设备，或在运行节点的机器上操作。", "This device's address may not manage the node (security.allowFrom). Use another device or the node's own machine."],
  },

  // Health
  health: {
    loading: ["正在读取节点状态…", "Reading the node's status…"],
    away: ["节点没有响应，无法得知现在的情况。", "The node does not answer; how it fares is not known."],
    good: ["一切正常，会议包均已就绪。", "All is well. Every package is ready."],
    busy: ["一切正常，正在拉取会议包。", "All is well. Packages are being pulled."],
    more: [
      (n) => listed(n.active && `进行中的会议 ${n.active} 个，就绪 ${n.ready} 个`, n.busy && `正在拉取 ${n.busy} 个`, n.serving && `${n.serving} 个下载正在进行`),
      (n) => listed(n.active && `${n.ready} of ${s(n.active, "running meeting")} ready`, n.busy && `${n.busy} being pulled`, n.serving && `${s(n.serving, "download")} under way`),
    ],
  },
  problem: {
    login_broken: ["现在无法从其他电脑登录：登录文件有问题。", "Nobody can log in from another machine: the file with the logins is not right."],
    "login_broken.do": ["在运行节点的机器上执行 edge-mirror token --new --config 配置文件，会重新生成该文件。", "On the node's machine, run edge-mirror token --new --config FILE: it makes the file anew."],
    open_access: ["任何能打开本页的人都可以停止服务、修改配置（security.open 已打开）。", "Anybody who opens this page may stop the service and change settings (security.open is on)."],
    "open_access.do": ["若非有意，请在“配置”中关闭它。", "Unless that is meant, switch it off in the settings."],
    stopped: ["服务已停止，平板不能从这个节点下载。", "The service is stopped; tablets can't download from this node."],
    "stopped.do": ["需要时点击本页的“启动服务”。", "Press “Start service” on this page when it is needed."],
    main_server_unreachable: [
      (p) => `${since(p)}连接不上主控服务器 ${p.main_server}${why(p)}。`,
      (p) => `The main server ${p.main_server} can't be reached${p.since && ` since ${p.since}`}${because(p)}.`,
    ],
    "main_server_unreachable.do": ["已就绪的会议包照常提供下载，节点会自动重新连接。", "Packages that are ready are still served, and the node reconnects by itself."],
    poll_failed: [
      (p) => `不能从主控服务器 ${p.main_server} 读取会议列表${why(p)}。`,
      (p) => `The list of meetings can't be read from ${p.main_server}${because(p)}.`,
    ],
    "poll_failed.do": ["新开始的会议暂不同步，已就绪的会议包照常提供下载。", "Meetings that start now are not synced; packages that are ready are still served."],
    meeting_failing: [
      (p) => `会议“${p.title || p.meeting}”的会议包没有拉取成功${why(p)}。`,
      (p) => `The package of “${p.title || p.meeting}” could not be pulled${because(p)}.`,
    ],
    storage_error: ["存储文件夹 {path} 不能使用。", "The storage folder {path} can't be used."],
    "storage_error.do": ["请检查文件夹是否存在、能否读写，磁盘是否正常，或换一个文件夹。", "Check that it exists, that the node may write to it and that the disk works, or choose another folder."],
    storage_nearly_full: ["存储空间快满了：已用 {used}，上限 {limit}。", "Storage is nearly full: {used} of {limit} are used."],
    "storage_nearly_full.do": ["请在“会议”中移除不需要的会议包，或提高存储上限。", "Remove packages that nobody needs under Meetings, or raise the storage limit."],
    config_rejected: ["配置文件 {file} 有错误，没有生效，节点仍使用上一次的配置。", "The configuration file {file} has mistakes; the last good one stays in force."],
    "config_rejected.do": ["请按技术信息改正文件，保存后自动生效；在此之前本页不能保存配置。", "Mend it as the technical details say; it then takes effect by itself. Until then nothing can be saved here."],
    port_error: ["端口 {port} 不能使用，节点仍在原来的端口上工作。", "Port {port} can't be used; the node still works on the old one."],
    "port_error.do": ["多半被其他程序占用：请停止那个程序，或换一个端口。", "Another program probably has it: stop that, or choose another port."],
    address_unreachable: ["主控服务器连接不上本节点登记的地址 {address}，平板不会被引导到这里。", "The main server can't reach this node at {address}, so no tablets are sent here."],
    "address_unreachable.do": ["请检查防火墙是否放行这个端口；平板须用另一地址时，请设置并启用公布地址。", "Check that the firewall lets this port through; if tablets need another address, set and enable the public address."],
    heartbeat_slow: ["心跳间隔 {interval} 秒太长：超过 30 秒没有心跳，主控服务器就不再使用本节点。", "A heartbeat interval of {interval} s is too long: main servers drop a node after 30 s of silence."],
    "heartbeat_slow.do": ["请改为 20 秒或更短。", "Set it to 20 s or less."],
  },

  next: {
    now: [
      (p) => (p.attempt ? `正在进行第 ${p.attempt} 次尝试。` : "正在重试。"),
      (p) => (p.attempt ? `Attempt ${p.attempt} is under way.` : "Trying again now."),
    ],
    in: [
      (p) => `${p.seconds} 秒后${p.attempt ? `进行第 ${p.attempt + 1} 次尝试` : "自动重试"}。`,
      (p) => `${p.attempt ? `Attempt ${p.attempt + 1}` : "Next try"} in ${p.seconds} s.`,
    ],
  },
  cause: {
    refused: ["对方拒绝连接", "the connection was refused"],
    "refused.do": ["请确认主控服务器正在运行，配置的地址和端口正确。", "Make sure that the main server runs and that its address and port in the settings are right."],
    unreachable: ["网络不通，或地址无法解析", "no way through the network, or the name is unknown"],
    "unreachable.do": ["请检查网线和交换机、主控服务器是否开机、配置的地址是否正确。", "Check the cables, whether the main server is on, and its address in the settings."],
    timeout: ["对方没有及时响应", "it did not answer in time"],
    "timeout.do": ["请检查网络是否拥堵、防火墙是否拦截，或延长“连接时限”。", "Check for a busy network or a firewall, or raise “Connection timeout”."],
    http_status: ["对方返回了错误", "it answered with an error"],
    "http_status.do": ["请查看技术信息和主控服务器的日志。", "See the technical details and the main server's log."],
    unreadable: ["对方的回答无法识别，可能不是主控服务器", "its answer makes no sense; it may be no main server"],
    "unreadable.do": ["请检查配置的主控服务器地址和端口。", "Check the main server's address and port in the settings."],
    not_found: ["主控服务器上没有这个会议", "the main server does not know the meeting"],
    "not_found.do": ["请在主控服务器上确认会议仍在进行。", "Check on the main server that the meeting is still running."],
    no_package: ["主控服务器上还没有它的会议包", "the main server has no package for it yet"],
    "no_package.do": ["请在主控服务器上传会议包，节点随后自动拉取。", "Upload its package on the main server; the node then pulls it by itself."],
    interrupted: ["传输中断", "the transfer broke off"],
    "interrupted.do": ["节点会断点续传；若反复发生，请检查网络。", "The node goes on from there; if it happens often, check the network."],
    stalled: ["传输停滞", "the transfer stood still"],
    "stalled.do": ["节点会自动重试；若反复发生，请检查网络。", "The node tries again; if it happens often, check the network."],
    too_slow: ["传输太慢，超过了“单次拉取时限”", "the transfer took longer than allowed"],
    "too_slow.do": ["请检查网络速度，或延长“单次拉取时限”。", "Check the network's speed, or raise “Time for one attempt”."],
    damaged: ["收到的文件已损坏", "the file that arrived is damaged"],
    "damaged.do": ["请在主控服务器上重新上传；若文件没有问题，请检查网络设备。", "Upload it again on the main server; if it is good there, check the network."],
    no_room: ["存储空间不够", "there is not enough room"],
    "no_room.do": ["请移除不需要的会议包，或提高存储上限。", "Remove packages that nobody needs, or raise the storage limit."],
    disk: ["磁盘读写出错", "the disk can't be read or written"],
    "disk.do": ["请检查磁盘是否已满或损坏、文件夹能否读写。", "Check whether the disk is full or broken, and the folder's permissions."],
    busy: ["主控服务器正忙", "the main server is busy"],
    "busy.do": ["节点会自动重试，一般不需要处理。", "The node tries again; there is nothing to do."],
    other: ["发生了其他错误", "something else went wrong"],
    "other.do": ["节点会自动重试；原因见技术信息。", "The node tries again; the technical details say why."],
  },

  // Views
  view: {
    traffic: ["流量", "Traffic"],
    config: ["配置", "Settings"],
    logs: ["日志", "Logs"],
  },
  link: {
    meeting: ["查看这个会议", "See this meeting"],
    setting: ["打开相关配置", "Open the setting"],
  },
  on: ["开", "on"],
  off: ["关", "off"],
  filter: {
    name: ["按状态筛选", "Filter by state"],
    all: ["全部", "All"],
    failing: ["失败", "Failing"],
    busy: ["处理中", "In work"],
    ready: ["就绪", "Ready"],
    ended: ["已结束", "Ended"],
  },

  // Overview
  node: ["本节点", "This node"],
  tile: {
    meetings: ["会议包就绪", "Packages ready"],
    kept: ["本机共有 {n} 个会议", "{n:meeting} known here"],
    busy: ["正在拉取 {n} 个", "{n} being pulled"],
    failing: ["{n} 个拉取失败", "{n} failing"],
    serving: ["正在下载的平板", "Tablets downloading"],
    rate: ["发送速度 {rate}", "sending {rate}"],
  },
  server: {
    connected: ["已连接", "Connected"],
    disconnected: ["未连接", "Not connected"],
    unregistered: ["已注销", "Unregistered"],
  },
  service: {
    running: ["运行中", "Running"],
    "is.stopped": ["已停止", "Stopped"],
    start: ["启动服务", "Start service"],
    stop: ["停止服务", "Stop service"],
    started: ["服务已启动。", "The service is running."],
    stopped: ["服务已停止。", "The service is stopped."],
    "stop.title": ["停止服务？", "Stop the service?"],
    "stop.what": ["节点从主控服务器注销，不再拉取会议包，不接受新的下载；平板改从别处下载。", "The node leaves the main server, pulls nothing more and refuses new downloads; tablets download elsewhere."],
    "stop.keeps": ["正在进行的下载会完成，会议包保留在本机，随时可以重新启动。", "Downloads under way are finished, packages stay, and you can start it again at any time."],
  },
  fact: {
    node_id: ["节点 ID", "Node ID"],
    main_server: ["主控服务器", "Main server"],
    last_heartbeat: ["最近一次心跳", "Last heartbeat"],
    last_sync: ["最近一次同步", "Last sync"],
    advertised_address: ["提供给平板的地址", "Address for tablets"],
    node_port: ["监听端口", "Listening port"],
    storage_path: ["存储文件夹", "Storage folder"],
    config_file: ["配置文件", "Configuration file"],
    none: ["尚未登记", "not registered yet"],
    synced_at: ["同步时间", "Synced at"],
    file_count: ["文件数", "Files"],
    last_error: ["最近的错误", "Last error"],
  },

  // Meetings
  column: {
    downloads: ["下载次数", "Downloads"],
    served: ["最近下载", "Last served"],
  },
  state: {
    waiting: ["等待拉取", "Waiting"],
    "waiting.why": ["正在排队", "others are pulled first"],
    pulling: ["拉取中", "Pulling"],
    verifying: ["校验中", "Verifying"],
    "verifying.why": ["正在检查文件是否完整", "checking that the file is complete"],
    failing: ["拉取失败", "Failing"],
    synced: ["就绪", "Ready"],
    unconfirmed: ["可用，待核对", "Ready, unconfirmed"],
    "unconfirmed.why": ["还没有与主控服务器核对版本", "not compared with the main server yet"],
    inactive: ["会议已结束", "Meeting ended"],
    unknown: ["状态未知", "Not known"],
    "unknown.why": ["不知道会议是否在进行", "whether the meeting is running is not known"],
  },
  "meeting.wrong": ["上次没有成功：{cause}。", "The last try failed: {cause}."],
  untitled: ["（没有标题）", "(no title)"],
  action: {
    sync: ["立即同步", "Sync now"],
    download: ["下载", "Download"],
    remove: ["移除", "Remove"],
  },
  "sync.begun": ["已开始同步。", "Syncing has begun."],
  removed: ["会议包已从本节点移除。", "The package was removed from this node."],
  remove: {
    title: ["从本节点移除会议包？", "Remove the package from this node?"],
    what: ["只删除本机的副本；会议再次开始时会重新拉取。", "Only this machine's copy is deleted; if the meeting starts again, it is pulled again."],
  },
  empty: {
    none: ["目前没有会议", "No meetings at the moment"],
    "none.why": ["主控服务器上的会议开始后，会自动出现在这里。", "Meetings that start on the main server appear here by themselves."],
    unknown: ["还不知道有哪些会议", "Meetings are not known yet"],
    "unknown.why": ["连接上主控服务器后，进行中的会议会自动出现在这里。", "Once the main server is connected, its meetings appear here by themselves."],
    "nomatch.why": ["请换一个查找内容，或选择“全部”。", "Look for something else, or choose “All”."],
    logs: ["没有这个级别的日志", "No log lines of this level"],
    "logs.why": ["新的日志会自动出现在这里。", "New lines appear here by themselves."],
  },

  // Traffic
  traffic: {
    chart: ["最近 15 分钟的流量", "Traffic of the last 15 minutes"],
    served: ["发送给平板", "Served to tablets"],
    pulled: ["从主控服务器拉取", "Pulled from the main server"],
  },
  total: {
    under_way: ["正在进行的下载", "Downloads under way"],
    served: ["启动以来发送", "Served since start"],
    pulled: ["启动以来拉取", "Pulled since start"],
  },
  "storage.threshold": ["达到标线 {size}（{share}）后，开始移除已结束会议的会议包。", "From the mark at {size} ({share}) on, packages of ended meetings are removed."],
  machine: ["本机", "This machine"],
  gauge: {
    storage: ["会议包", "Packages"],
    cpu: ["处理器", "CPU"],
    memory: ["内存", "Memory"],
    disk: ["磁盘", "Disk"],
  },
  cores: ["{n} 核", "{n:core}"],

  // Settings
  config: {
    groups: ["配置分组", "Groups of settings"],
    empty: ["留空表示不设置", "empty: not set"],
    unset: ["不设置", "not set"],
    networks: ["每行一个，例如 10.0.0.0/8", "one a line, such as 10.0.0.0/8"],
    fixed: ["不能修改", "can't be changed"],
    environment: ["由环境变量 {variable} 设定", "set by the environment variable {variable}"],
    range: ["可填：{allowed} · 默认：{value}", "Allowed: {allowed} · Default: {value}"],
    default: ["默认：{value}", "Default: {value}"],
    reset: ["恢复默认", "Reset to default"],
    edited: ["已修改", "changed"],
    elsewhere: ["这一项刚刚在别处改成了“{value}”。", "This was just changed to “{value}” elsewhere."],
    theirs: ["采用新值", "Take the new value"],
    mine: ["保留我的修改", "Keep mine"],
    unsaved: ["{n} 项修改尚未保存", "{n:unsaved change}"],
    mend: ["有值需要改正", "A value needs mending"],
    discard: ["放弃修改", "Discard"],
    save: ["保存修改", "Save changes"],
    saved: ["配置已保存并生效。", "Saved; the new settings are in force."],
    sure: ["确定保存这些修改？", "Save these changes?"],
    moving: ["配置已保存，正在转到新端口 {port}…", "Saved. Going to the new port {port}…"],
  },
  leave: {
    title: ["放弃未保存的修改？", "Discard unsaved changes?"],
    what: ["有 {n} 项修改尚未保存，离开后会丢失。", "{n:change} not saved yet will be lost."],
    discard: ["放弃并离开", "Discard and leave"],
    stay: ["留在此页", "Stay here"],
  },
  secret: {
    show: ["显示", "Show"],
    clear: ["清除", "Clear"],
    set: ["已设置，输入新值可替换", "set; type to replace it"],
    unset: ["未设置", "not set"],
    cleared: ["保存后清除", "cleared when saved"],
    is: ["已设置", "set"],
    new: ["新值", "a new one"],
  },
  unit: {
    s: ["秒", "s"],
    of: ["单位：{title}", "Unit of {title}"],
    bytes: ["{n} 字节", "{n} bytes"],
  },

  // Logs
  logs: {
    level: ["级别", "Level"],
    from: ["{name} 及以上", "{name} and above"],
    pause: ["暂停", "Pause"],
    resume: ["继续", "Resume"],
    new: ["有 {n} 行新日志，转到最新", "{n:new line}, jump to newest"],
  },
};
