// Texts of both pages, [中文, English]; {…} is replaced by parameters, and what
// has to bend to its parameters is a function.

export const s = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

export default {
  // The frame
  skip: ["跳到内容", "Skip to content"],
  views: ["页面", "Views"],
  health: ["运行状况", "Health"],
  "other.language": ["English", "中文"],
  login: ["登录", "Log in"],
  logout: ["退出登录", "Log out"],
  "logged.in": ["已登录。", "You are logged in."],
  "logged.out": ["已退出登录。", "You are logged out."],
  "session.local": ["本机操作", "On this machine"],
  away: ["节点没有响应，正在自动重新连接。", "The node does not answer; reconnecting by itself."],
  "away.since": ["下面显示的是 {time} 时的状态。", " What you see is from {time}."],
  cancel: ["取消", "Cancel"],
  close: ["关闭", "Close"],
  technical: ["技术信息", "Technical details"],
  "sentence.gap": ["", " "],
  "error.gone": ["节点没有响应，操作没有完成。请稍后再试。", "The node did not answer; nothing was done. Try again in a moment."],
  "error.login": ["登录已失效，请重新登录。", "Your login has ended. Please log in again."],
  "error.status": ["操作没有完成（HTTP {status}）。", "That did not work (HTTP {status})."],
  "time.left": ["约剩 {time}", "about {time} left"],
  "time.never": ["从未", "never"],
  "time.now": ["刚刚", "just now"],
  "chart.keys": ["用左右方向键逐点查看", "Left and right arrow keys read single points"],
  "chart.table": ["以表格显示", "Show as a table"],
  "chart.time": ["时间", "Time"],
  "chart.empty": ["还没有数据", "nothing recorded yet"],

  // Login
  "view.login": ["登录", "Log in"],
  "login.token": ["管理令牌或一次性登录码", "Admin token or one-time code"],
  "login.needed": ["这个页面只对管理员开放，请先登录。", "This page is for the operator. Please log in first."],
  "login.why": ["登录后可以启动和停止服务、管理会议包、修改配置、查看日志。", "Operators can start and stop the service, look after packages, change the configuration and read the logs."],
  "login.where": ["没有令牌？在运行节点的机器上执行下面的命令：", "No token at hand? Run this on the machine of the node:"],
  "login.command": ["edge-mirror token", "edge-mirror token"],
  "login.link": ["打开它显示的链接即可登录；也可以把链接中“login=”后面的登录码填在上面。", "Open the link that it prints, or type the code after “login=” in that link above."],
  "login.empty": ["请输入令牌或登录码。", "Enter the token or a code."],
  "login.wrong": ["令牌或登录码不正确，或者登录码已经用过、已经过期。", "That token or code is not right, or the code was used before or has expired."],
  "login.slow": ["错误次数太多，请稍候再试：", "Too many wrong tries. You can try again in"],
  "login.address": ["这台设备的地址不在允许管理的范围内（security.allowFrom），不能登录。请换一台设备，或在运行节点的机器上操作。", "The address of this device may not manage the node (security.allowFrom), so logging in is not possible. Use another device or the node's own machine."],

  // Health
  "health.loading": ["正在读取节点状态…", "Reading the node's status…"],
  "health.away": ["节点没有响应，不知道现在的情况。", "The node does not answer, so how it fares is not known."],
  "health.lead": ["查看处理办法", "What to do"],
  "health.problems": ["问题和处理办法", "Problems and what to do"],
  "health.others": [({ n }) => `另有 ${n} 个问题。`, ({ n }) => ` ${s(n, "more problem")}.`],
  "health.rest": ["还有 {n} 个问题没有列出。", ({ n }) => `${s(n, "more problem")} not listed.`],
  "problem.disk_nearly_full": ["{path} 所在的磁盘只剩 {free}。", "The disk that holds {path} has only {free} left."],
  "problem.disk_nearly_full.do": ["请删除这个磁盘上不需要的文件，或把存储文件夹换到更大的磁盘。", "Delete files on that disk that nobody needs, or move the storage folder to a larger disk."],
  "problem.open_access": ["任何能打开这个页面的人都可以停止服务、修改配置（security.open 已打开）。", "Anybody who can open this page may stop the service and change the configuration (security.open is on)."],
  "problem.open_access.do": ["如果不是有意为之，请在“配置”中关闭它。", "Unless that is meant, switch it off in the configuration."],

  // Views
  of: ["{used} / {limit}", "{used} of {limit}"],
  details: ["详情", "Details"],
  copy: ["复制", "Copy"],
  copied: ["已复制。", "Copied."],
  selected: ["已选中，请按 Ctrl+C 复制。", "Selected: press Ctrl+C to copy."],
};
