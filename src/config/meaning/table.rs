//! The texts themselves: a row for each setting, in the order of the panel.

use serde::Serialize;

/// The same in Chinese and in English.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Words {
    pub zh: &'static str,
    pub en: &'static str,
}

const fn words(zh: &'static str, en: &'static str) -> Words {
    Words { zh, en }
}

/// How the panel groups the settings, and under which heading.
pub const GROUPS: &[(&str, Words)] = &[
    ("connection", words("主控服务器", "Main server")),
    ("node", words("本节点", "This node")),
    ("storage", words("存储", "Storage")),
    ("cleanup", words("清理", "Cleaning")),
    ("network", words("拉取会议包", "Pulling packages")),
    ("serve", words("提供下载", "Serving packages")),
    ("tls", words("HTTPS", "HTTPS")),
    ("heartbeat", words("心跳", "Heartbeat")),
    ("logging", words("日志", "Logs")),
    ("security", words("安全", "Security")),
];

pub struct Meaning {
    pub key: &'static str,
    pub group: &'static str,
    pub unit: Option<&'static str>,
    pub title: Words,
    pub text: Words,
    /// What a change cuts or endangers.
    pub caution: Option<Words>,
}

const fn of(
    key: &'static str,
    group: &'static str,
    unit: Option<&'static str>,
    title: Words,
    text: Words,
) -> Meaning {
    Meaning { key, group, unit, title, text, caution: None }
}

const fn careful(meaning: Meaning, caution: Words) -> Meaning {
    Meaning { caution: Some(caution), ..meaning }
}

const SECONDS: Option<&str> = Some("s");
const BYTES: Option<&str> = Some("bytes");

pub const MEANINGS: &[Meaning] = &[
    careful(
        of(
            "mainServerIp",
            "connection",
            None,
            words("主控服务器地址", "Main server address"),
            words(
                "主控服务器的 IP 地址或主机名，不带 http:// 和端口。",
                "IP address or host name of the main server, without http:// and port.",
            ),
        ),
        words(
            "节点会从原主控服务器注销，并重新拉取新服务器上的会议包。",
            "The node leaves the present main server and pulls the packages anew from the other one.",
        ),
    ),
    careful(
        of(
            "mainServerPort",
            "connection",
            None,
            words("主控服务器端口", "Main server port"),
            words("主控服务器的端口。", "Port of the main server."),
        ),
        words(
            "节点会从原主控服务器注销，并重新拉取新服务器上的会议包。",
            "The node leaves the present main server and pulls the packages anew from the other one.",
        ),
    ),
    careful(
        of(
            "mainServerTls",
            "connection",
            None,
            words("用 HTTPS 连接主控服务器", "HTTPS to the main server"),
            words(
                "主控服务器（或其前面的反向代理）提供 HTTPS 时开启，端口要一并填对。",
                "On where the main server, or a proxy before it, speaks HTTPS; its port has to fit.",
            ),
        ),
        words(
            "地址随之改变：节点会重新登记，并重新核对会议包。",
            "It makes another address: the node registers again, and packages are compared or pulled anew.",
        ),
    ),
    of(
        "mainServerCa",
        "connection",
        None,
        words("主控服务器的证书颁发机构", "Main server's authority"),
        words(
            "自建证书颁发机构的证书，或主控服务器自己的证书（PEM）；设置后只信任它。留空则信任系统中的机构。",
            "PEM file of your own authority, or with the main server's own certificate; nobody else is trusted then. Empty: the system's authorities.",
        ),
    ),
    of(
        "mainServerCert",
        "connection",
        None,
        words("节点出示的证书", "Certificate shown to it"),
        words(
            "主控服务器要求客户端证书时填写（PEM，可含证书链）。",
            "PEM file, with its chain, for a main server that asks nodes for a certificate.",
        ),
    ),
    of(
        "mainServerCertKey",
        "connection",
        None,
        words("该证书的私钥", "That certificate's key"),
        words("上述证书的私钥文件（PEM，未加密）。", "PEM file of its private key, not encrypted."),
    ),
    of(
        "syncInterval",
        "connection",
        SECONDS,
        words("查询间隔", "Poll interval"),
        words(
            "每隔多久向主控服务器查询一次进行中的会议。",
            "How often the main server is asked for the active meetings.",
        ),
    ),
    of(
        "nodeId",
        "node",
        None,
        words("节点 ID", "Node ID"),
        words(
            "节点在主控服务器上的名字，首次启动时生成，之后不可修改。",
            "The node's name at the main server; made at the first start and never changed.",
        ),
    ),
    careful(
        of(
            "nodePort",
            "node",
            None,
            words("节点端口", "Node port"),
            words(
                "平板和本页面访问节点所用的端口。",
                "Port that tablets and this page reach the node at.",
            ),
        ),
        words(
            "本页面会转到新端口；正在进行的下载会继续完成，防火墙需放行新端口。",
            "This page moves to the new port; downloads under way finish. The firewall has to let the new port through.",
        ),
    ),
    careful(
        of(
            "usePublicAddress",
            "node",
            None,
            words("使用指定的公布地址", "Use the public address"),
            words(
                "开启后把下面的公布地址告知主控服务器；关闭则自动使用本机地址。",
                "Tell the main server the public address below; off: this machine's own address is found out.",
            ),
        ),
        words(
            "平板会被引导到新的地址，请确认它可以访问。",
            "Tablets are sent to the other address: make sure that it can be reached.",
        ),
    ),
    of(
        "publicIp",
        "node",
        None,
        words("公布地址", "Public address"),
        words(
            "平板访问本节点所用的 IP 或主机名（经过端口映射或 NAT 时填写）；留空则自动获取。",
            "IP address or host name that tablets reach this node at, behind NAT for example; empty: found out.",
        ),
    ),
    of(
        "advertiseInterface",
        "node",
        None,
        words("公布网卡", "Advertised interface"),
        words(
            "有多块网卡时，把哪一块的地址告知主控服务器；留空则用通往主控服务器的地址。使用公布地址时不起作用。",
            "With several interfaces, the one whose address the main server is told; empty: the one towards the main server. Without effect where the public address is used.",
        ),
    ),
    of(
        "publicPort",
        "node",
        None,
        words("公布端口", "Public port"),
        words(
            "与公布地址一起告知主控服务器的端口；留空则为节点端口。",
            "Port told to the main server with the public address; empty: the node's port.",
        ),
    ),
    of(
        "shutdownGrace",
        "node",
        SECONDS,
        words("退出等待时间", "Grace time at the end"),
        words(
            "节点退出时，最多等待正在进行的下载多久。",
            "How long downloads under way may go on when the node is told to end.",
        ),
    ),
    careful(
        of(
            "storage.path",
            "storage",
            None,
            words("存储文件夹", "Storage folder"),
            words(
                "会议包存放的文件夹；相对路径从配置文件所在的文件夹算起。",
                "Where packages are kept; relative paths begin at the configuration file's folder.",
            ),
        ),
        words(
            "原文件夹会保持原样，会议包将重新拉取到新文件夹。",
            "The old folder is left as it is; packages are pulled anew into the new one.",
        ),
    ),
    of(
        "storage.maxSize",
        "storage",
        BYTES,
        words("存储上限", "Storage limit"),
        words("所有会议包最多占用的空间。", "What all packages together may take."),
    ),
    of(
        "storage.autoCleanup",
        "storage",
        None,
        words("空间不足时自动清理", "Clean when space runs short"),
        words(
            "占用达到清理阈值时，删除最久没有被下载的、不在进行中的会议包。",
            "At the threshold, packages of meetings that are not active go, least recently served first.",
        ),
    ),
    of(
        "storage.cleanupThreshold",
        "storage",
        Some("share"),
        words("清理阈值", "Cleaning threshold"),
        words("占用达到上限的多少时开始清理。", "The share of the limit at which cleaning begins."),
    ),
    of(
        "storage.verify",
        "storage",
        None,
        words("校验方式", "Verification"),
        words(
            "full：校验 ZIP 结构和每个文件的 CRC；structure：只校验结构（更快）。",
            "full: the ZIP's structure and every file's CRC; structure: the structure only, which is quicker.",
        ),
    ),
    of(
        "cleanup.enabled",
        "cleanup",
        None,
        words("清理已结束的会议", "Remove what has ended"),
        words("总开关：关闭后下面两项都不生效。", "Switch for the two below."),
    ),
    of(
        "cleanup.cleanOnStartup",
        "cleanup",
        None,
        words("启动时清理", "At the start"),
        words(
            "启动时删除不在进行中的会议包。",
            "Remove packages that were here at the start and whose meetings are not active.",
        ),
    ),
    of(
        "cleanup.cleanEndedMeetings",
        "cleanup",
        None,
        words("会议结束后清理", "After a meeting's end"),
        words("会议结束后删除它的会议包。", "Remove a meeting's package once it has ended."),
    ),
    of(
        "cleanup.graceSeconds",
        "cleanup",
        SECONDS,
        words("清理前等待", "Wait before removing"),
        words(
            "会议从主控服务器的列表中消失这么久之后才删除会议包。",
            "How long a meeting must have been absent from the main server's list before its package goes.",
        ),
    ),
    of(
        "network.maxConcurrentDownloads",
        "network",
        None,
        words("同时拉取数量", "Pulls at a time"),
        words(
            "最多同时从主控服务器拉取多少个会议包，数值大会加重主控服务器负担。",
            "How many packages are pulled at once; more is a burden on the main server.",
        ),
    ),
    of(
        "network.downloadTimeout",
        "network",
        SECONDS,
        words("单次拉取时限", "Time for one attempt"),
        words("一次拉取最多用时，超过则重试。", "One attempt may take so long in all."),
    ),
    of(
        "network.connectionTimeout",
        "network",
        SECONDS,
        words("连接时限", "Connection timeout"),
        words(
            "建立连接、等待首个字节以及数据停顿的最长时间。",
            "Time to connect, for the first byte, and between bytes.",
        ),
    ),
    of(
        "network.retryCount",
        "network",
        None,
        words("每轮尝试次数", "Attempts in a round"),
        words(
            "一轮拉取最多尝试几次，之后隔一段时间再开始下一轮。",
            "Attempts of one round of pulling; the next round comes some time later.",
        ),
    ),
    of(
        "network.retryDelay",
        "network",
        SECONDS,
        words("重试间隔", "Pause before a retry"),
        words(
            "第一次重试前的等待时间，之后逐次加倍。",
            "Before the second attempt; doubled each time.",
        ),
    ),
    of(
        "network.bandwidth",
        "network",
        BYTES,
        words("拉取带宽（每秒）", "Bandwidth of pulls, per second"),
        words(
            "所有拉取合计每秒最多接收的字节数，以免占满线路；0 表示不限制。因此而等待的时间不计入拉取时限。",
            "What all pulls together may receive in a second, so that they don't fill the line; 0: no limit. Waiting for it does not count as a main server's slowness.",
        ),
    ),
    of(
        "serve.cutThrough",
        "serve",
        None,
        words("边拉取边发送", "Send while pulling"),
        words(
            "会议包还在拉取时就开始发给等待的客户端；最后一部分在校验通过后才发送，校验失败则断开连接。关闭则等校验完成后再发送。",
            "Clients that wait for a package being pulled get its bytes as they arrive; the last ones only once the whole is verified, else the connection breaks. Off: they wait for the whole.",
        ),
    ),
    careful(
        of(
            "tls.cert",
            "tls",
            None,
            words("证书", "Certificate"),
            words(
                "证书文件（PEM，可含证书链）。与私钥一起设置后，nodePort 提供 HTTPS；文件更新后自动生效。",
                "PEM file, with its chain. With the key, nodePort speaks HTTPS; the file is read again when it changes.",
            ),
        ),
        words(
            "平板和浏览器必须信任此证书，证书须包含节点的地址；本页面的地址会变为 https。",
            "Tablets and browsers have to trust it, and it has to name the node's address; this page moves to https.",
        ),
    ),
    of(
        "tls.key",
        "tls",
        None,
        words("私钥", "Private key"),
        words(
            "证书的私钥文件（PEM，未加密）。",
            "PEM file of the certificate's key, not encrypted.",
        ),
    ),
    of(
        "tls.redirectPort",
        "tls",
        None,
        words("转到 HTTPS 的端口", "Port that sends on to HTTPS"),
        words(
            "在此端口用普通 HTTP 应答，把访问转到 HTTPS，例如 80；0 表示不用。nodePort 上的普通 HTTP 请求总会被转走。",
            "Answers plain HTTP, 80 say, by sending on to HTTPS; 0: none. Plain HTTP to nodePort itself is always sent on.",
        ),
    ),
    of(
        "serve.maxDownloads",
        "serve",
        None,
        words("同时下载数量", "Downloads at a time"),
        words(
            "最多同时进行多少个下载；超出的先排队几秒，仍无空位则返回 503 请客户端稍后再来。0 表示不限制。",
            "How many downloads may be under way; those beyond wait a few seconds, then are told by a 503 to come back. 0: no limit.",
        ),
    ),
    of(
        "serve.maxPerClient",
        "serve",
        None,
        words("每个客户端的下载数量", "Downloads of one client"),
        words(
            "同一地址最多同时进行多少个下载（分段下载时每段算一个）；同一 NAT 后面的平板算作一个客户端。0 表示不限制。",
            "How many downloads one address may have under way, each range counting as one; tablets behind one NAT are one client. 0: no limit.",
        ),
    ),
    of(
        "serve.maxConnectionsPerClient",
        "serve",
        None,
        words("每个客户端的连接数", "Connections of one client"),
        words(
            "同一地址（IPv6 按 /64 网段）最多可有多少个连接，超出的返回 503；同一 NAT 后面的平板算作一个客户端。0 表示全部连接数的四分之三。",
            "How many connections one address may have, an IPv6 network of /64 being one; those beyond get a 503. Tablets behind one NAT are one client. 0: three quarters of all.",
        ),
    ),
    of(
        "serve.bandwidth",
        "serve",
        BYTES,
        words("下载带宽（每秒）", "Bandwidth of downloads, per second"),
        words(
            "所有下载合计每秒最多发送的字节数，由各下载平分；0 表示不限制。",
            "What all downloads together may send in a second, shared evenly; 0: no limit.",
        ),
    ),
    of(
        "heartbeat.interval",
        "heartbeat",
        SECONDS,
        words("心跳间隔", "Heartbeat interval"),
        words(
            "每隔多久向主控服务器报到一次。主控服务器 30 秒收不到就会移除节点，建议不超过 20 秒。",
            "How often the node reports to the main server, which drops nodes that are silent for 30 s: keep it at 20 or less.",
        ),
    ),
    of(
        "heartbeat.timeout",
        "heartbeat",
        SECONDS,
        words("断线判定时间", "Counts as disconnected after"),
        words(
            "多久没有成功的心跳就显示为未连接，必须大于心跳间隔。",
            "Without a good heartbeat for so long the node shows as disconnected; above the interval.",
        ),
    ),
    of(
        "logging.level",
        "logging",
        None,
        words("日志级别", "Level"),
        words("记录哪些日志，平时用 INFO。", "What is logged; INFO is for everyday use."),
    ),
    of(
        "logging.format",
        "logging",
        None,
        words("日志格式", "Format"),
        words(
            "text 便于阅读；json 每行一个对象，便于日志系统收集。",
            "text is for people; json, an object to a line, for programs that gather logs.",
        ),
    ),
    of(
        "logging.fileEnabled",
        "logging",
        None,
        words("写入日志文件", "Log to a file"),
        words("除控制台外，同时写入文件。", "To a file as well, not only to the console."),
    ),
    of(
        "logging.filePath",
        "logging",
        None,
        words("日志文件", "Log file"),
        words(
            "相对路径从配置文件所在的文件夹算起。",
            "Relative paths begin at the configuration file's folder.",
        ),
    ),
    of(
        "logging.maxFileSize",
        "logging",
        BYTES,
        words("日志文件大小", "Size of the log file"),
        words("达到这个大小后另起新文件。", "Beyond it a new file is begun."),
    ),
    of(
        "logging.backupCount",
        "logging",
        None,
        words("保留的旧日志数量", "Old log files kept"),
        words("最多保留多少个旧日志文件。", "How many old ones are kept."),
    ),
    careful(
        of(
            "security.open",
            "security",
            None,
            words("无需登录", "No login"),
            words(
                "开启后任何能访问本端口的人都可以修改配置、停止服务，与旧版节点一样。",
                "Whoever reaches this port may change the configuration and stop the service, as with the old node.",
            ),
        ),
        words(
            "任何能访问本端口的人都将拥有管理员权限。",
            "Everybody who reaches this port will have the administrator's rights.",
        ),
    ),
    careful(
        of(
            "security.trustLocal",
            "security",
            None,
            words("本机免登录", "No login on this machine"),
            words(
                "在本机操作不需要登录。如果本机上有不添加 X-Forwarded-For 的反向代理，请关闭。",
                "Who works on the machine itself need not log in. Turn it off where a reverse proxy on this machine does not add X-Forwarded-For.",
            ),
        ),
        words(
            "关闭后，本机也需要登录或管理令牌；请先确认您能登录。",
            "Off, this machine needs a login or the token, too: make sure that you can log in.",
        ),
    ),
    careful(
        of(
            "security.allowFrom",
            "security",
            None,
            words("允许管理的地址", "Addresses that may manage"),
            words(
                "只有这些地址和网段可以登录和管理；留空表示不限制。本机始终可以。不影响会议包下载。",
                "Only these addresses and networks may log in and manage; empty: any. The machine itself always may. Downloads are not concerned.",
            ),
        ),
        words(
            "不在列表中的地址将立即无法管理本节点。",
            "Addresses that are not listed can't manage this node from then on.",
        ),
    ),
    of(
        "security.trustedProxies",
        "security",
        None,
        words("可信的反向代理", "Trusted proxies"),
        words(
            "这些地址转发的请求，以其 X-Forwarded-For 中的地址为准。",
            "Requests from these count as those of the address in their X-Forwarded-For.",
        ),
    ),
    of(
        "security.mainServerKey",
        "security",
        None,
        words("主控服务器密钥", "Main server's key"),
        words(
            "主控服务器要求节点提供密钥时填写；平时留空。",
            "The key that the main server asks of nodes, if it does.",
        ),
    ),
];
