//! Every setting, one row each: key, allowed values, default, and the texts of the
//! panel and the documentation. Checks, a new file, the answers of the API, its
//! description and the tables of `docs/` are made of it.

mod casts;
mod dispatch;
mod gofd;
mod relay;
mod security;
mod tasks;

use super::setting::{
    DefaultValue, PORT, SettingGroup, SettingKind, bandwidth, boolean, integer, limit, schedule,
    setting, size, words,
};

/// In the order in which a new file and the panel list them.
pub(crate) const GROUPS: &[SettingGroup] = &[
    SettingGroup {
        name: "connection",
        title: words("主控服务器", "Main server"),
        settings: &[
            setting("mainServerIp", SettingKind::Host, DefaultValue::Text("192.168.110.10"))
                .titled("主控服务器地址", "Main server address")
                .described(
                    "主控服务器的 IP 地址或主机名，不带 http:// 和端口。",
                    "IP address or host name of the main server, without http:// or a port.",
                )
                .cautioned(
                    "节点会从原主控服务器注销，并重新拉取新服务器上的会议包。",
                    "The node unregisters from the current main server and pulls its packages again from the new one.",
                ),
            setting("mainServerPort", PORT, DefaultValue::Int(80))
                .titled("主控服务器端口", "Main server port")
                .described("主控服务器的端口。", "Port of the main server.")
                .cautioned(
                    "节点会从原主控服务器注销，并重新拉取新服务器上的会议包。",
                    "The node unregisters from the current main server and pulls its packages again from the new one.",
                ),
            boolean("mainServerTls", false)
                .titled("用 HTTPS 连接主控服务器", "HTTPS to the main server")
                .described(
                    "主控服务器（或其前面的反向代理）提供 HTTPS 时开启，端口要一并填对。",
                    "Use HTTPS to reach the main server, or a proxy in front of it. The port must match.",
                )
                .cautioned(
                    "主控服务器的地址随之改变：节点会重新注册，并重新核对或拉取会议包。",
                    "The main server's address changes with it: the node registers again and checks or pulls its packages again.",
                ),
            setting("mainServers", SettingKind::MainServers, DefaultValue::EmptyList)
                .titled("多个主控服务器", "Several main servers")
                .described(
                    "同一套系统（共用一个数据库）的各主控服务器，每行一个；正在使用的没有应答时，节点改用下一个，不重新拉取会议包。第一个就是上面的地址、端口和 HTTPS，修改任一处，另一处随之改变；留空则只有上面这一个。",
                    "The main servers of one fleet (with one database), one a line. When the one in use does not answer, the node goes on to the next, and pulls nothing again. The first of them is the address, port and HTTPS above: a change of either changes the other. Empty: only the one above.",
                )
                .cautioned(
                    "列表中任何一个主控服务器上的会议包都会保留；这些主控服务器必须共用一个数据库。",
                    "Packages of every main server in the list are kept: they must share one database.",
                )
                .advanced(),
            setting("mainServerCa", SettingKind::Path, DefaultValue::Null)
                .titled("主控服务器的 CA 证书", "Main server's CA")
                .described(
                    "主控服务器使用自建 CA 或自签名证书时，填写该证书的路径（PEM）；设置后只信任它。留空则信任系统中的 CA。",
                    "PEM file with your own CA's certificate, or the main server's own certificate; only that is trusted then. Empty: the system's CAs.",
                )
                .advanced(),
            setting("mainServerCert", SettingKind::Path, DefaultValue::Null)
                .titled("节点的客户端证书", "Client certificate")
                .described(
                    "主控服务器要求客户端证书时填写（PEM，可含证书链），与私钥一起设置。",
                    "PEM file with a certificate and its chain, for a main server that requires client certificates. Set it together with the key.",
                )
                .advanced(),
            setting("mainServerCertKey", SettingKind::Path, DefaultValue::Null)
                .titled("该证书的私钥", "Client certificate's key")
                .described(
                    "上述证书的私钥文件（PEM，未加密）。",
                    "PEM file with its private key, unencrypted.",
                )
                .advanced(),
            integer("syncInterval", 1, 3600, 10)
                .titled("查询间隔", "Poll interval")
                .described(
                    "每隔多久向主控服务器查询一次进行中的会议。",
                    "How often the node asks the main server for active meetings.",
                )
                .in_unit("s"),
        ],
    },
    SettingGroup {
        name: "node",
        title: words("本节点", "This node"),
        settings: &[
            setting("nodeId", SettingKind::NodeId, DefaultValue::Null)
                .titled("节点 ID", "Node ID")
                .described(
                    "节点在主控服务器上的名称，首次启动时生成，之后不可修改。",
                    "The node's name at the main server. Generated at the first start, never changed afterwards.",
                ),
            setting("site", SettingKind::Label { max_chars: 64 }, DefaultValue::Text(""))
                .titled("站点", "Site")
                .described(
                    "节点所在地点的名称，例如楼宇或园区；名称相同的节点优先互相传递会议包，站点之间每个会议包只传一次左右。都在同一处时留空即可。",
                    "Name of the place where the node stands, such as a building. Nodes of one site pass packages to each other first, and each package travels between sites about once. Empty where all nodes are in one place.",
                ),
            setting("nodePort", PORT, DefaultValue::Int(8001))
                .titled("节点端口", "Node port")
                .described(
                    "平板和管理页面访问节点所用的端口。",
                    "Port at which tablets and the panel reach the node.",
                )
                .cautioned(
                    "管理页面会转到新端口；正在进行的下载会继续完成，防火墙需放行新端口。",
                    "The panel moves to the new port, and downloads in progress finish. The firewall must allow the new port.",
                ),
            boolean("usePublicAddress", false)
                .titled("使用指定的公布地址", "Use the public address")
                .described(
                    "开启后把公布地址和公布端口报告给主控服务器；关闭则使用公布网卡的地址，或自动检测。",
                    "Report the public address and port to the main server. Off: the advertised interface's address, or one detected automatically.",
                )
                .cautioned(
                    "平板会被引导到新的地址，请确认可以访问。",
                    "Tablets are sent to the new address: make sure they can reach it.",
                ),
            setting("publicIp", SettingKind::PublicHost, DefaultValue::Null)
                .titled("公布地址", "Public address")
                .described(
                    "平板访问本节点所用的 IP 或主机名（经过端口映射或 NAT 时填写）；留空则自动检测。",
                    "IP address or host name at which tablets reach this node, for example behind NAT. Empty: detected automatically.",
                ),
            setting("advertiseInterface", SettingKind::Interface, DefaultValue::Null)
                .titled("公布网卡", "Advertised interface")
                .described(
                    "有多块网卡时，把哪一块的地址报告给主控服务器（IPv4 优先）；留空，或该网卡不存在、没有地址时，用通往主控服务器的本机地址。使用公布地址时不起作用。",
                    "On a machine with several interfaces, the one whose address (IPv4 before IPv6) is reported to the main server. Empty, or while it is missing or has no address: the local address of the route to the main server. Ignored while the public address is used.",
                )
                .advanced(),
            setting("publicPort", PORT, DefaultValue::Null)
                .titled("公布端口", "Public port")
                .described(
                    "与公布地址一起报告给主控服务器的端口；留空则为节点端口。",
                    "Port reported to the main server together with the public address. Empty: the node's port.",
                ),
            integer("shutdownGrace", 0, 3600, 20)
                .titled("退出等待时间", "Shutdown grace period")
                .described(
                    "节点退出时，最多等待正在进行的下载多久。",
                    "How long downloads in progress may continue when the node shuts down.",
                )
                .in_unit("s")
                .advanced(),
        ],
    },
    SettingGroup {
        name: "storage",
        title: words("存储", "Storage"),
        settings: &[
            setting("storage.path", SettingKind::Path, DefaultValue::Text("./storage"))
                .titled("存储文件夹", "Storage folder")
                .described(
                    "存放会议包的文件夹；相对路径从配置文件所在的文件夹算起。",
                    "Folder for packages. Relative paths start at the configuration file's folder.",
                )
                .cautioned(
                    "原文件夹会保持原样，会议包将重新拉取到新文件夹。",
                    "The old folder is left as it is; packages are pulled again into the new one.",
                ),
            size("storage.maxSize", 1 << 20, 10 << 30)
                .titled("存储上限", "Storage limit")
                .described(
                    "所有会议包最多占用的空间。",
                    "Maximum space for all packages together.",
                ),
            boolean("storage.autoCleanup", true)
                .titled("空间不足时自动清理", "Free space automatically")
                .described(
                    "占用超过清理阈值时，删除不在进行中的会议的会议包，最久没有被下载的先删，直到降至阈值的 90%。",
                    "Above the threshold, remove packages of meetings that are not active, least recently downloaded first, until usage is down to 90 % of the threshold.",
                ),
            setting("storage.cleanupThreshold", SettingKind::Float { min: 0.1, max: 1.0 }, DefaultValue::Float(0.9))
                .titled("清理阈值", "Cleanup threshold")
                .described(
                    "占用超过存储上限的多大比例时开始清理。",
                    "Share of the storage limit above which space is freed.",
                )
                .in_unit("share")
                .advanced(),
            setting("storage.verify", SettingKind::Choice(&["full", "structure"]), DefaultValue::Text("full"))
                .titled("校验方式", "Verification")
                .described(
                    "full：校验 ZIP 结构和每个文件的 CRC；structure：只校验结构（更快）。",
                    "full checks the ZIP structure and the CRC of every file; structure checks only the structure, which is faster.",
                )
                .advanced(),
        ],
    },
    SettingGroup {
        name: "cleanup",
        title: words("清理", "Cleanup"),
        settings: &[
            boolean("cleanup.enabled", true)
                .titled("清理已结束的会议", "Remove ended meetings")
                .described(
                    "总开关：关闭后下面两项都不生效。",
                    "Main switch: when off, the next two settings have no effect.",
                ),
            boolean("cleanup.cleanOnStartup", true)
                .titled("启动时清理", "At startup")
                .described(
                    "启动时删除本地已有、但会议不在进行中的会议包。",
                    "Remove packages that are already stored at startup and whose meetings are not active.",
                )
                .advanced(),
            boolean("cleanup.cleanEndedMeetings", true)
                .titled("会议结束后清理", "After a meeting ends")
                .described(
                    "会议结束后删除它的会议包。",
                    "Remove a meeting's package after the meeting has ended.",
                ),
            integer("cleanup.graceSeconds", 0, 86400, 30)
                .titled("清理前等待", "Wait before removal")
                .described(
                    "会议从主控服务器的列表中消失这么久之后才删除会议包。",
                    "How long a meeting must be absent from the main server's list before its package is removed.",
                )
                .in_unit("s")
                .advanced(),
        ],
    },
    SettingGroup {
        name: "network",
        title: words("拉取会议包", "Pulling packages"),
        settings: &[
            integer("network.maxConcurrentDownloads", 1, 64, 3)
                .titled("同时拉取数量", "Concurrent pulls")
                .described(
                    "最多同时从主控服务器拉取多少个会议包。进行中且有客户端在等的会议优先，其次是其他进行中的会议；其他请求最多占三分之二。数值越大，主控服务器负担越重。",
                    "How many packages are pulled at the same time. Active meetings that clients are waiting for come first, then other active meetings; all other requests get at most two thirds. Higher values put more load on the main server.",
                )
                .advanced(),
            integer("network.downloadTimeout", 1, 86400, 300)
                .titled("单次拉取时限", "Time for one attempt")
                .described(
                    "单次尝试超过此时间后，只有每个 connectionTimeout 内至少收到 256 KiB 才会继续，否则重试。从其他节点拉取时：对方自己也没有更多数据时，最多等待多久。",
                    "After this time, an attempt goes on only while at least 256 KiB arrive within each connectionTimeout; else the node retries. From another node: how long to wait for data while that node has no more itself.",
                )
                .in_unit("s")
                .advanced(),
            integer("network.connectionTimeout", 1, 300, 10)
                .titled("连接时限", "Connection timeout")
                .described(
                    "建立连接、等待首个字节以及数据停顿的最长时间。",
                    "Time limit for connecting, for the first byte, and for pauses in the data.",
                )
                .in_unit("s")
                .advanced(),
            integer("network.retryCount", 1, 100, 3)
                .titled("每轮尝试次数", "Attempts in a round")
                .described(
                    "一轮拉取最多尝试几次，之后隔一段时间再开始下一轮；也是心跳失败后快速重试的次数。",
                    "Attempts in one round of pulling; the next round follows after a pause. Also the number of quick retries of a failed heartbeat.",
                )
                .advanced(),
            integer("network.retryDelay", 0, 3600, 5)
                .titled("重试间隔", "Pause before a retry")
                .described(
                    "第一次重试前的等待时间；之后逐次加倍，并随机缩短至多一半，避免同时失败的节点同时重试。",
                    "Pause before the second attempt. Doubled each time, and shortened at random by up to half, so that nodes that failed together do not retry together.",
                )
                .in_unit("s")
                .advanced(),
            bandwidth("network.bandwidth")
                .titled("拉取带宽（每秒）", "Pull bandwidth, per second")
                .described(
                    "所有拉取合计每秒最多接收的字节数，以免占满线路；0 表示不限制。因此而等待的时间不计入拉取时限。",
                    "Bytes that all pulls together may receive per second, so that they don't fill the line. 0: no limit. Waiting for it does not count toward the time limits.",
                ),
            schedule("network.schedule")
                .titled("后台拉取的分时限速", "Background pulls by the hour")
                .described(
                    "按本机时间限制后台拉取（会议开始前的预先拉取，以及为核对而进行的拉取）的带宽（合计每秒），每行一个时段：08:00-18:00 10MB；off 表示该时段内不拉取；其余时间不限制。时段可跨午夜，不能重叠。已开始的会议不受影响。",
                    "Limits background pulls (of packages whose meeting has not been started, and those that only compare), together per second, in ranges of local time: 08:00-18:00 10MB; off: none in that time. At other times there is no limit. Ranges may cross midnight and must not overlap. Meetings that have started are not affected.",
                )
                .advanced(),
        ],
    },
    SettingGroup {
        name: "serve",
        title: words("提供下载", "Serving packages"),
        settings: &[
            boolean("serve.cutThrough", true)
                .titled("边拉取边发送", "Send while pulling")
                .described(
                    "只要主控服务器告知了长度，会议包还在拉取时就开始发给等待的客户端；最后 64 KiB 在整包校验通过后才发送，校验失败则断开连接。关闭则等校验完成后再发送。",
                    "Clients waiting for a package that is still being pulled receive it as it arrives, if the main server announced its length. The last 64 KiB are sent only after verification; if it fails, the connection is closed. Off: clients wait until the package is verified.",
                )
                .advanced(),
            limit("serve.maxDownloads", 1, 100_000)
                .titled("同时下载数量", "Concurrent downloads")
                .described(
                    "最多同时进行多少个下载；超出的最多排队 3 秒，仍无空位则返回 503 和 Retry-After。0 表示不限制。",
                    "Maximum number of concurrent downloads. Requests over the limit wait up to 3 seconds, then get 503 with Retry-After. 0: no limit.",
                ),
            limit("serve.maxPerClient", 1, 100_000)
                .titled("每个客户端的下载数量", "Downloads per client")
                .described(
                    "同一客户端地址最多同时进行多少个下载（分段下载时每段算一个）；同一 NAT 后面的平板算作一个客户端，可信反向代理之后以其转发的地址为准。0 表示不限制。",
                    "Maximum number of concurrent downloads per client address; each range request counts. Tablets behind one NAT count as one client; behind a trusted proxy, the forwarded address counts. 0: no limit.",
                )
                .advanced(),
            integer("serve.maxConnectionsPerClient", 0, 100_000, 0)
                .titled("每个客户端的连接数", "Connections per client")
                .described(
                    "同一客户端地址（IPv6 按 /64 网段计）最多可有多少个连接，超出的返回 503，HTTPS 连接则直接关闭；同一 NAT 后面的平板算作一个客户端。0 表示全部连接数的四分之三。",
                    "Maximum number of connections per client address (IPv6: per /64 network); further ones get 503, or are closed if they use HTTPS. Tablets behind one NAT count as one client. 0: three quarters of all connections.",
                )
                .advanced(),
            bandwidth("serve.bandwidth")
                .titled("下载带宽（每秒）", "Download bandwidth, per second")
                .described(
                    "所有下载合计每秒最多发送的字节数，由各下载平分；0 表示不限制。",
                    "Bytes that all downloads together may send per second, shared evenly. 0: no limit.",
                ),
        ],
    },
    relay::GROUP,
    casts::GROUP,
    dispatch::GROUP,
    gofd::GROUP,
    tasks::GROUP,
    SettingGroup {
        name: "tls",
        title: words("HTTPS", "HTTPS"),
        settings: &[
            setting("tls.cert", SettingKind::Path, DefaultValue::Null)
                .titled("证书", "Certificate")
                .described(
                    "证书文件（PEM，可含证书链）。与私钥一起设置后，nodePort 提供 HTTPS；文件更新后自动生效。",
                    "PEM file with the certificate and its chain. Together with the key, it switches nodePort to HTTPS. Reloaded when the file changes.",
                )
                .cautioned(
                    "平板和浏览器必须信任此证书，证书须包含节点的地址；管理页面的地址会变为 https。",
                    "Tablets and browsers must trust it, and it must cover the node's address. The panel moves to https.",
                ),
            setting("tls.key", SettingKind::Path, DefaultValue::Null)
                .titled("私钥", "Private key")
                .described(
                    "证书的私钥文件（PEM，未加密）。",
                    "PEM file with the certificate's private key, unencrypted.",
                ),
            integer("tls.redirectPort", 0, 65535, 0)
                .titled("重定向到 HTTPS 的端口", "HTTP redirect port")
                .described(
                    "在此端口（例如 80）上把普通 HTTP 重定向到 HTTPS；0 表示不用。nodePort 上的普通 HTTP 请求总会被重定向。",
                    "Additional port, such as 80, that redirects plain HTTP to HTTPS. 0: none. Plain HTTP on nodePort itself is always redirected.",
                )
                .advanced(),
        ],
    },
    SettingGroup {
        name: "heartbeat",
        title: words("心跳", "Heartbeat"),
        settings: &[
            integer("heartbeat.interval", 1, 300, 10)
                .titled("心跳间隔", "Heartbeat interval")
                .described(
                    "每隔多久向主控服务器发送一次心跳；有变化时立即发送。主控服务器 30 秒收不到心跳就不再使用该节点，建议不超过 20 秒。",
                    "How often the node sends a heartbeat to the main server; changes are sent at once. Main servers drop a node after 30 s of silence: keep it at 20 or less.",
                )
                .in_unit("s")
                .advanced(),
            integer("heartbeat.timeout", 2, 86400, 30)
                .titled("断线判定时间", "Disconnected after")
                .described(
                    "超过多久没有成功的心跳，即显示为未连接；必须大于心跳间隔。",
                    "Time without a successful heartbeat after which the node shows as disconnected. Must be greater than the interval.",
                )
                .in_unit("s")
                .advanced(),
        ],
    },
    SettingGroup {
        name: "logging",
        title: words("日志", "Logs"),
        settings: &[
            setting("logging.level", SettingKind::Choice(&["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]), DefaultValue::Text("INFO"))
                .titled("日志级别", "Level")
                .described(
                    "记录哪些日志，平时用 INFO。",
                    "How much is logged; INFO is for everyday use.",
                ),
            setting("logging.format", SettingKind::Choice(&["text", "json"]), DefaultValue::Text("text"))
                .titled("日志格式", "Format")
                .described(
                    "text 便于阅读；json 每行一个对象，便于日志系统收集。",
                    "text is easy to read; json writes one object per line, for log collectors.",
                )
                .advanced(),
            boolean("logging.fileEnabled", true)
                .titled("写入日志文件", "Log to a file")
                .described(
                    "除控制台外，同时写入文件。",
                    "Write to a file as well as to the console.",
                )
                .advanced(),
            setting("logging.filePath", SettingKind::Path, DefaultValue::Text("./logs/node.log"))
                .titled("日志文件", "Log file")
                .described(
                    "日志文件的路径；相对路径从配置文件所在的文件夹算起。链接，以及内容不是本程序日志的已有文件，不会被写入。",
                    "Path of the log file. Relative paths start at the configuration file's folder. Links, and existing files with anything else than this program's log, are never written to.",
                )
                .advanced(),
            size("logging.maxFileSize", 1024, 10 << 20)
                .titled("日志文件大小", "Log file size")
                .described(
                    "达到这个大小后另起新文件。",
                    "The log file is rotated when it reaches this size.",
                )
                .advanced(),
            integer("logging.backupCount", 0, 1000, 5)
                .titled("保留的旧日志数量", "Old log files kept")
                .described(
                    "最多保留多少个旧日志文件；node.log.1 最新。",
                    "How many rotated files are kept; node.log.1 is the newest.",
                )
                .advanced(),
        ],
    },
    security::GROUP,
];
