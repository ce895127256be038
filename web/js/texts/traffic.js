// Texts of the main server's view of downloads, [中文, English].

export default {
  traffic: {
    chart: ["最近 15 分钟的下载（每 5 秒）", "Downloads of the last 15 minutes (per 5 seconds)"],
    redirects: ["引导到节点", "Sent to nodes"],
    own: ["由本机提供", "Served from here"],
  },
  "shares.title": ["下载去向", "Where downloads went"],
  "shares.others": ["其他 {n} 个", "{n:other}"],
  "recent.title": ["最近的下载", "Latest downloads"],
  "recent.more": ["再显示 {n} 个", "Show {n} more"],
  refused: {
    title: ["失败的下载", "Downloads that failed"],
    what: ["平板请求了会议包，但没有得到。", "Tablets asked for a package and did not get it."],
    unknown_meeting: ["没有这个会议", "no such meeting"],
    not_running: ["会议未在进行", "the meeting is not running"],
    no_package: ["没有会议包", "there is no package"],
    verifying: ["正在校验", "being verified"],
    not_here: ["尚未从共享存储取回", "not yet fetched from the package store"],
    storage: ["磁盘出错", "disk error"],
  },
};
