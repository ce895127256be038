// Texts of both pages, [中文, English]. {name} is replaced by that parameter,
// {n:meeting} by "1 meeting" or "2 meetings"; what has to bend more to its
// parameters is a function.

export const listed = (...parts) => parts.filter(Boolean).join(" · ");
export const s = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

export default {
  api: ["接口文档", "API documentation"],
  skip: ["跳到内容", "Skip to content"],
  views: ["页面", "Views"],
  health: {
    name: ["运行状况", "Health"],
    lead: ["查看处理办法", "What to do"],
    problems: ["问题和处理办法", "Problems and what to do"],
    others: ["另有 {n} 个问题。", " {n:more problem}."],
    rest: ["还有 {n} 个问题没有列出。", "{n:more problem} not listed."],
    idle: ["一切正常，目前没有进行中的会议。", "All is well. No meeting is running."],
  },
  "other.language": ["English", "中文"],
  login: {
    name: ["登录", "Log in"],
    token: ["管理令牌或一次性登录码", "Admin token or one-time code"],
    needed: ["这个页面只对管理员开放，请先登录。", "This page is for the operator. Please log in first."],
    link: ["打开它显示的链接即可登录，也可以把链接中“login=”后面的登录码填在上面。", "Open the link that it prints, or enter the code after “login=” in it above."],
    empty: ["请输入令牌或登录码。", "Enter the token or a code."],
    wrong: ["令牌或登录码不正确，或登录码已用过、已过期。", "That is not right, or the code was used before or has expired."],
    slow: ["错误次数过多，请", "Too many failed attempts. Try again in"],
    "slow.end": ["后再试。", "."],
  },
  logout: ["退出登录", "Log out"],
  logged: {
    in: ["已登录。", "You are logged in."],
    out: ["已退出登录。", "You are logged out."],
  },
  "session.local": ["本机操作", "On this machine"],
  "away.since": ["下面显示的是 {time} 时的状态。", " What you see is from {time}."],
  cancel: ["取消", "Cancel"],
  close: ["关闭", "Close"],
  technical: ["技术信息", "Technical details"],
  "sentence.gap": ["", " "],
  error: {
    login: ["登录已失效，请重新登录。", "Your login has ended. Please log in again."],
    status: ["操作没有完成（HTTP {status}）。", "That did not work (HTTP {status})."],
  },
  time: {
    left: ["约剩 {time}", "about {time} left"],
    never: ["从未", "never"],
    now: ["刚刚", "just now"],
  },
  chart: {
    keys: ["用左右方向键逐点查看", "Left and right arrow keys read single points"],
    table: ["以表格显示", "Show as a table"],
    time: ["时间", "Time"],
    empty: ["还没有数据", "nothing recorded yet"],
  },
  view: {
    login: ["登录", "Log in"],
    overview: ["概览", "Overview"],
    meetings: ["会议", "Meetings"],
  },
  problem: {
    connections_per_client: ["有客户端地址已用满 {most} 个连接，多出的连接被拒绝。", "One address uses all of its {most} connections; more are refused."],
    connections_full: ["{places} 个连接已用尽：空闲或过慢的连接会被关闭，没有可关闭的时，新客户端需要等待。", "All {places} connections are in use. Idle and slow ones are closed for others; where there are none, new clients wait."],
    "connections_full.do": ["请增加节点；如果数目小于 8192，也可以调高打开文件数上限（systemd 的 LimitNOFILE）。", "Add a node or, below 8192, raise the open file limit (systemd: LimitNOFILE)."],
    disk_nearly_full: ["{path} 所在的磁盘只剩 {free}。", "The disk that holds {path} has only {free} left."],
    "disk_nearly_full.do": ["请删除磁盘上不需要的文件，或把存储文件夹换到更大的磁盘。", "Delete files there that nobody needs, or move the storage folder to a larger disk."],
  },

  of: ["{used} / {limit}", "{used} of {limit}"],
  details: ["详情", "Details"],
  copy: ["复制", "Copy"],
  copied: ["已复制。", "Copied."],
  selected: ["已选中，请按 Ctrl+C 复制。", "Selected: press Ctrl+C to copy."],
  "storage.name": ["存储空间", "Storage"],
  fact: {
    version: ["版本", "Version"],
    uptime: ["已运行", "Running for"],
    since: ["（启动于 {time}）", " (since {time})"],
    sha256: ["SHA-256 摘要", "SHA-256 digest"],
  },
  meetings: {
    search: ["按标题或 ID 查找", "Find by title or ID"],
    found: ["找到 {n} 个会议", "{n:meeting} found"],
    more: ["再显示 {n} 个（还有 {left} 个）", "Show {n} more ({left} left)"],
  },
  column: {
    title: ["会议", "Meeting"],
    state: ["状态", "State"],
    size: ["大小", "Size"],
  },
  "empty.nomatch": ["没有符合条件的会议", "No meeting matches"],
};
