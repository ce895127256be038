//! The texts themselves: a row for each setting, in the order of the panel.

use serde::Serialize;

/// The same in Chinese and in English.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Words {
    pub zh: &'static str,
    pub en: &'static str,
}

const fn words(zh: &'static str, en: &'static str) -> Words {
    Words { zh, en }
}

/// Groups of settings in the panel, with their headings.
pub const GROUPS: &[(&str, Words)] = &[
    ("connection", words("主控服务器", "Main server")),
    ("node", words("本节点", "This node")),
    ("storage", words("存储", "Storage")),
    ("cleanup", words("清理", "Cleanup")),
    ("network", words("拉取会议包", "Pulling packages")),
    ("serve", words("提供下载", "Serving packages")),
    ("tls", words("HTTPS", "HTTPS")),
    ("heartbeat", words("心跳", "Heartbeat")),
    ("logging", words("日志", "Logs")),
    ("security", words("安全", "Security")),
];

/// Settings that few people need: the panel shows them on demand.
pub const ADVANCED: &[&str] = &[
    "mainServerCa",
    "mainServerCert",
    "mainServerCertKey",
    "advertiseInterface",
    "shutdownGrace",
    "storage.cleanupThreshold",
    "storage.verify",
    "cleanup.cleanOnStartup",
    "cleanup.graceSeconds",
    "network.maxConcurrentDownloads",
    "network.downloadTimeout",
    "network.connectionTimeout",
    "network.retryCount",
    "network.retryDelay",
    "serve.cutThrough",
    "serve.maxPerClient",
    "serve.maxConnectionsPerClient",
    "tls.redirectPort",
    "heartbeat.interval",
    "heartbeat.timeout",
    "logging.format",
    "logging.fileEnabled",
    "logging.filePath",
    "logging.maxFileSize",
    "logging.backupCount",
    "security.trustLocal",
    "security.trustedProxies",
];

pub struct Meaning {
    pub key: &'static str,
    pub group: &'static str,
    pub unit: Option<&'static str>,
    pub title: Words,
    pub text: Words,
    /// Risks of a change.
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
                "IP address or host name of the main server, without http:// or a port.",
            ),
        ),
        words(
            "节点会从原主控服务器注销，并重新拉取新服务器上的会议包。",
            "The node unregisters from the current main server and pulls its packages again from the new one.",
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
            "The node unregisters from the current main server and pulls its packages again from the new one.",
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
                "Use HTTPS to reach the main server, or a proxy in front of it. The port must match.",
            ),
        ),
        words(
            "主控服务器的地址随之改变：节点会重新注册，并重新核对或拉取会议包。",
            "The main server's address changes with it: the node registers again and checks or pulls its packages again.",
        ),
    ),
    of(
        "mainServerCa",
        "connection",
        None,
        words("主控服务器的 CA 证书", "Main server's CA"),
        words(
            "主控服务器使用自建 CA 或自签名证书时，填写该证书的路径（PEM）；设置后只信任它。留空则信任系统中的 CA。",
            "PEM file with your own CA's certificate, or the main server's own certificate; only that is trusted then. Empty: the system's CAs.",
        ),
    ),
    of(
        "mainServerCert",
        "connection",
        None,
        words("节点的客户端证书", "Client certificate"),
        words(
            "主控服务器要求客户端证书时填写（PEM，可含证书链），与私钥一起设置。",
            "PEM file with a certificate and its chain, for a main server that requires client certificates. Set it together with the key.",
        ),
    ),
    of(
        "mainServerCertKey",
        "connection",
        None,
        words("该证书的私钥", "Client certificate's key"),
        words("上述证书的私钥文件（PEM，未加密）。", "PEM file with its private key, unencrypted."),
    ),
    of(
        "syncInterval",
        "connection",
        SECONDS,
        words("查询间隔", "Poll interval"),
        words(
            "每隔多久向主控服务器查询一次进行中的会议。",
            "How often the node asks the main server for active meetings.",
        ),
    ),
    of(
        "nodeId",
        "node",
        None,
        words("节点 ID", "Node ID"),
        words(
            "节点在主控服务器上的名称，首次启动时生成，之后不可修改。",
            "The node's name at the main server. Generated at the first start, never changed afterwards.",
        ),
    ),
    careful(
        of(
            "nodePort",
            "node",
            None,
            words("节点端口", "Node port"),
            words(
                "平板和管理页面访问节点所用的端口。",
                "Port at which tablets and the panel reach the node.",
            ),
        ),
        words(
            "管理页面会转到新端口；正在进行的下载会继续完成，防火墙需放行新端口。",
            "The panel moves to the new port, and downloads in progress finish. The firewall must allow the new port.",
        ),
    ),
    careful(
        of(
            "usePublicAddress",
            "node",
            None,
            words("使用指定的公布地址", "Use the public address"),
            words(
                "开启后把公布地址和公布端口报告给主控服务器；关闭则使用公布网卡的地址，或自动检测。",
                "Report the public address and port to the main server. Off: the advertised interface's address, or one detected automatically.",
            ),
        ),
        words(
            "平板会被引导到新的地址，请确认可以访问。",
            "Tablets are sent to the new address: make sure they can reach it.",
        ),
    ),
    of(
        "publicIp",
        "node",
        None,
        words("公布地址", "Public address"),
        words(
            "平板访问本节点所用的 IP 或主机名（经过端口映射或 NAT 时填写）；留空则自动检测。",
            "IP address or host name at which tablets reach this node, for example behind NAT. Empty: detected automatically.",
        ),
    ),
    of(
        "advertiseInterface",
        "node",
        None,
        words("公布网卡", "Advertised interface"),
        words(
            "有多块网卡时，把哪一块的地址报告给主控服务器（IPv4 优先）；留空，或该网卡不存在、没有地址时，用通往主控服务器的本机地址。使用公布地址时不起作用。",
            "On a machine with several interfaces, the one whose address (IPv4 before IPv6) is reported to the main server. Empty, or while it is missing or has no address: the local address of the route to the main server. Ignored while the public address is used.",
        ),
    ),
    of(
        "publicPort",
        "node",
        None,
        words("公布端口", "Public port"),
        words(
            "与公布地址一起报告给主控服务器的端口；留空则为节点端口。",
            "Port reported to the main server together with the public address. Empty: the node's port.",
        ),
    ),
    of(
        "shutdownGrace",
        "node",
        SECONDS,
        words("退出等待时间", "Shutdown grace period"),
        words(
            "节点退出时，最多等待正在进行的下载多久。",
            "How long downloads in progress may continue when the node shuts down.",
        ),
    ),
    careful(
        of(
            "storage.path",
            "storage",
            None,
            words("存储文件夹", "Storage folder"),
            words(
                "存放会议包的文件夹；相对路径从配置文件所在的文件夹算起。",
                "Folder for packages. Relative paths start at the configuration file's folder.",
            ),
        ),
        words(
            "原文件夹会保持原样，会议包将重新拉取到新文件夹。",
            "The old folder is left as it is; packages are pulled again into the new one.",
        ),
    ),
    of(
        "storage.maxSize",
        "storage",
        BYTES,
        words("存储上限", "Storage limit"),
        words("所有会议包最多占用的空间。", "Maximum space for all packages together."),
    ),
    of(
        "storage.autoCleanup",
        "storage",
        None,
        words("空间不足时自动清理", "Free space automatically"),
        words(
            "占用超过清理阈值时，删除不在进行中的会议的会议包，最久没有被下载的先删，直到降至阈值的 90%。",
            "Above the threshold, remove packages of meetings that are not active, least recently downloaded first, until usage is down to 90 % of the threshold.",
        ),
    ),
    of(
        "storage.cleanupThreshold",
        "storage",
        Some("share"),
        words("清理阈值", "Cleanup threshold"),
        words(
            "占用超过存储上限的多大比例时开始清理。",
            "Share of the storage limit above which space is freed.",
        ),
    ),
    of(
        "storage.verify",
        "storage",
        None,
        words("校验方式", "Verification"),
        words(
            "full：校验 ZIP 结构和每个文件的 CRC；structure：只校验结构（更快）。",
            "full checks the ZIP structure and the CRC of every file; structure checks only the structure, which is faster.",
        ),
    ),
    of(
        "cleanup.enabled",
        "cleanup",
        None,
        words("清理已结束的会议", "Remove ended meetings"),
        words(
            "总开关：关闭后下面两项都不生效。",
            "Main switch: when off, the next two settings have no effect.",
        ),
    ),
    of(
        "cleanup.cleanOnStartup",
        "cleanup",
        None,
        words("启动时清理", "At startup"),
        words(
            "启动时删除本地已有、但会议不在进行中的会议包。",
            "Remove packages that are already stored at startup and whose meetings are not active.",
        ),
    ),
    of(
        "cleanup.cleanEndedMeetings",
        "cleanup",
        None,
        words("会议结束后清理", "After a meeting ends"),
        words(
            "会议结束后删除它的会议包。",
            "Remove a meeting's package after the meeting has ended.",
        ),
    ),
    of(
        "cleanup.graceSeconds",
        "cleanup",
        SECONDS,
        words("清理前等待", "Wait before removal"),
        words(
            "会议从主控服务器的列表中消失这么久之后才删除会议包。",
            "How long a meeting must be absent from the main server's list before its package is removed.",
        ),
    ),
    of(
        "network.maxConcurrentDownloads",
        "network",
        None,
        words("同时拉取数量", "Concurrent pulls"),
        words(
            "最多同时从主控服务器拉取多少个会议包。进行中且有客户端在等的会议优先，其次是其他进行中的会议；其他请求最多占三分之二。数值越大，主控服务器负担越重。",
            "How many packages are pulled at the same time. Active meetings that clients are waiting for come first, then other active meetings; all other requests get at most two thirds. Higher values put more load on the main server.",
        ),
    ),
    of(
        "network.downloadTimeout",
        "network",
        SECONDS,
        words("单次拉取时限", "Time for one attempt"),
        words(
            "单次尝试的总时限，超过则重试。",
            "Total time limit for one attempt; after that the node retries.",
        ),
    ),
    of(
        "network.connectionTimeout",
        "network",
        SECONDS,
        words("连接时限", "Connection timeout"),
        words(
            "建立连接、等待首个字节以及数据停顿的最长时间。",
            "Time limit for connecting, for the first byte, and for pauses in the data.",
        ),
    ),
    of(
        "network.retryCount",
        "network",
        None,
        words("每轮尝试次数", "Attempts in a round"),
        words(
            "一轮拉取最多尝试几次，之后隔一段时间再开始下一轮；也是心跳失败后快速重试的次数。",
            "Attempts in one round of pulling; the next round follows after a pause. Also the number of quick retries of a failed heartbeat.",
        ),
    ),
    of(
        "network.retryDelay",
        "network",
        SECONDS,
        words("重试间隔", "Pause before a retry"),
        words(
            "第一次重试前的等待时间；之后逐次加倍，并随机缩短至多四分之一。",
            "Pause before the second attempt. Doubled each time, and shortened at random by up to a quarter.",
        ),
    ),
    of(
        "network.bandwidth",
        "network",
        BYTES,
        words("拉取带宽（每秒）", "Pull bandwidth, per second"),
        words(
            "所有拉取合计每秒最多接收的字节数，以免占满线路；0 表示不限制。因此而等待的时间不计入拉取时限。",
            "Bytes that all pulls together may receive per second, so that they don't fill the line. 0: no limit. Waiting for it does not count toward the time limits.",
        ),
    ),
    of(
        "serve.cutThrough",
        "serve",
        None,
        words("边拉取边发送", "Send while pulling"),
        words(
            "只要主控服务器告知了长度，会议包还在拉取时就开始发给等待的客户端；最后 64 KiB 在整包校验通过后才发送，校验失败则断开连接。关闭则等校验完成后再发送。",
            "Clients waiting for a package that is still being pulled receive it as it arrives, if the main server announced its length. The last 64 KiB are sent only after verification; if it fails, the connection is closed. Off: clients wait until the package is verified.",
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
                "PEM file with the certificate and its chain. Together with the key, it switches nodePort to HTTPS. Reloaded when the file changes.",
            ),
        ),
        words(
            "平板和浏览器必须信任此证书，证书须包含节点的地址；管理页面的地址会变为 https。",
            "Tablets and browsers must trust it, and it must cover the node's address. The panel moves to https.",
        ),
    ),
    of(
        "tls.key",
        "tls",
        None,
        words("私钥", "Private key"),
        words(
            "证书的私钥文件（PEM，未加密）。",
            "PEM file with the certificate's private key, unencrypted.",
        ),
    ),
    of(
        "tls.redirectPort",
        "tls",
        None,
        words("重定向到 HTTPS 的端口", "HTTP redirect port"),
        words(
            "在此端口（例如 80）上把普通 HTTP 重定向到 HTTPS；0 表示不用。nodePort 上的普通 HTTP 请求总会被重定向。",
            "Additional port, such as 80, that redirects plain HTTP to HTTPS. 0: none. Plain HTTP on nodePort itself is always redirected.",
        ),
    ),
    of(
        "serve.maxDownloads",
        "serve",
        None,
        words("同时下载数量", "Concurrent downloads"),
        words(
            "最多同时进行多少个下载；超出的最多排队 3 秒，仍无空位则返回 503 和 Retry-After。0 表示不限制。",
            "Maximum number of concurrent downloads. Requests over the limit wait up to 3 seconds, then get 503 with Retry-After. 0: no limit.",
        ),
    ),
    of(
        "serve.maxPerClient",
        "serve",
        None,
        words("每个客户端的下载数量", "Downloads per client"),
        words(
            "同一客户端地址最多同时进行多少个下载（分段下载时每段算一个）；同一 NAT 后面的平板算作一个客户端，可信反向代理之后以其转发的地址为准。0 表示不限制。",
            "Maximum number of concurrent downloads per client address; each range request counts. Tablets behind one NAT count as one client; behind a trusted proxy, the forwarded address counts. 0: no limit.",
        ),
    ),
    of(
        "serve.maxConnectionsPerClient",
        "serve",
        None,
        words("每个客户端的连接数", "Connections per client"),
        words(
            "同一客户端地址（IPv6 按 /64 网段计）最多可有多少个连接，超出的返回 503，HTTPS 连接则直接关闭；同一 NAT 后面的平板算作一个客户端。0 表示全部连接数的四分之三。",
            "Maximum number of connections per client address (IPv6: per /64 network); further ones get 503, or are closed if they use HTTPS. Tablets behind one NAT count as one client. 0: three quarters of all connections.",
        ),
    ),
    of(
        "serve.bandwidth",
        "serve",
        BYTES,
        words("下载带宽（每秒）", "Download bandwidth, per second"),
        words(
            "所有下载合计每秒最多发送的字节数，由各下载平分；0 表示不限制。",
            "Bytes that all downloads together may send per second, shared evenly. 0: no limit.",
        ),
    ),
    of(
        "heartbeat.interval",
        "heartbeat",
        SECONDS,
        words("心跳间隔", "Heartbeat interval"),
        words(
            "每隔多久向主控服务器发送一次心跳；有变化时立即发送。主控服务器 30 秒收不到心跳就不再使用该节点，建议不超过 20 秒。",
            "How often the node sends a heartbeat to the main server; changes are sent at once. Main servers drop a node after 30 s of silence: keep it at 20 or less.",
        ),
    ),
    of(
        "heartbeat.timeout",
        "heartbeat",
        SECONDS,
        words("断线判定时间", "Disconnected after"),
        words(
            "超过多久没有成功的心跳，即显示为未连接；必须大于心跳间隔。",
            "Time without a successful heartbeat after which the node shows as disconnected. Must be greater than the interval.",
        ),
    ),
    of(
        "logging.level",
        "logging",
        None,
        words("日志级别", "Level"),
        words("记录哪些日志，平时用 INFO。", "How much is logged; INFO is for everyday use."),
    ),
    of(
        "logging.format",
        "logging",
        None,
        words("日志格式", "Format"),
        words(
            "text 便于阅读；json 每行一个对象，便于日志系统收集。",
            "text is easy to read; json writes one object per line, for log collectors.",
        ),
    ),
    of(
        "logging.fileEnabled",
        "logging",
        None,
        words("写入日志文件", "Log to a file"),
        words("除控制台外，同时写入文件。", "Write to a file as well as to the console."),
    ),
    of(
        "logging.filePath",
        "logging",
        None,
        words("日志文件", "Log file"),
        words(
            "日志文件的路径；相对路径从配置文件所在的文件夹算起。链接，以及内容不是本程序日志的已有文件，不会被写入。",
            "Path of the log file. Relative paths start at the configuration file's folder. Links, and existing files with anything else than this program's log, are never written to.",
        ),
    ),
    of(
        "logging.maxFileSize",
        "logging",
        BYTES,
        words("日志文件大小", "Log file size"),
        words("达到这个大小后另起新文件。", "The log file is rotated when it reaches this size."),
    ),
    of(
        "logging.backupCount",
        "logging",
        None,
        words("保留的旧日志数量", "Old log files kept"),
        words(
            "最多保留多少个旧日志文件；node.log.1 最新。",
            "How many rotated files are kept; node.log.1 is the newest.",
        ),
    ),
    careful(
        of(
            "security.open",
            "security",
            None,
            words("无需登录", "No login"),
            words(
                "开启后任何能访问本端口的人都可以修改配置、停止服务，与旧版节点一样。",
                "Anyone who can reach this port may change the configuration and stop the service, as with the old node.",
            ),
        ),
        words(
            "任何能访问本端口的人都将拥有管理员权限。",
            "Anyone who can reach this port becomes an operator.",
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
                "No login is needed on the machine itself. Turn this off if a reverse proxy on this machine does not add X-Forwarded-For.",
            ),
        ),
        words(
            "关闭后，本机也需要登录或管理令牌；请先确认您能登录。",
            "When off, this machine needs a login or the token, too: make sure you can log in.",
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
                "Only these addresses and networks may log in and manage the node. Empty: any. The machine itself always may. Downloads are not affected.",
            ),
        ),
        words(
            "不在列表中的地址将立即无法管理本节点。",
            "Addresses that are not on the list can no longer manage this node.",
        ),
    ),
    of(
        "security.trustedProxies",
        "security",
        None,
        words("可信的反向代理", "Trusted proxies"),
        words(
            "这些代理转发的请求，以其 X-Forwarded-For 和 X-Forwarded-Proto 为准。",
            "Proxies whose X-Forwarded-For and X-Forwarded-Proto headers are believed.",
        ),
    ),
    of(
        "security.mainServerKey",
        "security",
        None,
        words("主控服务器密钥", "Main server's key"),
        words(
            "主控服务器要求节点提供密钥时填写，作为 X-API-Key 发送；从不显示。",
            "The key that the main server requires of its nodes, if it does. Sent as X-API-Key, never shown.",
        ),
    ),
];
