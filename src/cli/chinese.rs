//! The help in Chinese. In English it is the doc comments of the arguments; a
//! test of `help` fails where one of them is missing here.

/// Commands and their descriptions.
const COMMANDS: &[(&str, &str)] = &[
    ("", "从主控服务器同步会议包并提供给平板"),
    ("node", "运行边缘节点（默认）"),
    ("master", "运行内置的主控服务器"),
    ("master backup", "把会议、节点和规则写入文件，主控服务器运行时也可以"),
    ("master restore", "用备份替换现有的会议、节点和规则；请先停止主控服务器"),
    ("master move-state", "把会议、节点和规则移到另一个数据库；请先停止主控服务器"),
    ("master help", "显示帮助"),
    ("demo", "一键试用：主控服务器、几个节点和一个示例会议"),
    ("token", "生成一小时内有效的一次性登录链接，或新的管理令牌"),
    ("bench", "会前演练：许多客户端同时下载一个会议包"),
    ("install", "安装为本机的服务，或升级已安装的版本"),
    ("uninstall", "移除服务和程序；不加 --purge 则保留配置和会议包"),
    ("completions", "输出命令行补全脚本"),
    ("get", "下载一个会议包并校验"),
    ("status", "查看节点的状态：会议、拉取进度和问题"),
    ("verify", "按摘要校验所有已存储的会议包"),
    ("publish", "在主控服务器上用会议包创建会议并开始"),
    ("push", "把本机的文件通过主控服务器发送到节点"),
    ("nodes", "列出主控服务器的节点，或决定接受哪些节点"),
    ("nodes approve", "接受等待中的节点（新节点，或换了地址的已知节点），或已拒绝的节点"),
    (
        "nodes refuse",
        "拒绝等待中的节点；没有等待中的则拒绝该 ID 的已知节点。接受或移除之前一直被拒绝",
    ),
    ("nodes remove", "移除节点；再次注册时按新节点处理"),
    ("nodes help", "显示帮助"),
    ("meetings", "列出主控服务器的会议，以及各节点的就绪情况"),
    ("ready", "查看所有节点是否都已为会议就绪，以及哪些未就绪"),
    ("cast", "向节点上监听的程序发送消息"),
    ("casts", "列出发给节点的消息，以及送达情况"),
    ("sync", "让节点立即拉取或核对一个会议包，并等待结果"),
    ("config", "查看、修改或检查配置：配置文件，或正在运行的节点"),
    ("config get", "查看配置项：指定的几项，或全部"),
    (
        "config set",
        "修改配置项：全部生效；有一项无效则都不修改。正在运行的节点会自动读取修改后的文件",
    ),
    ("config check", "检查配置有无错误，或修改后会不会出错"),
    ("help", "显示帮助"),
    ("config help", "显示帮助"),
];

/// Texts shown only in a command's own help.
const DETAILS: &[(&str, &str)] = &[
    (
        "",
        "从主控服务器同步会议包并提供给平板。\n\n不带命令时运行边缘节点，等同于 edge-mirror node。",
    ),
    (
        "master backup",
        "把会议、节点和规则写入文件，主控服务器运行时也可以。\n\n会议包、登录信息和节点密钥是数据文件夹中的文件，不在其中。",
    ),
    (
        "master restore",
        "用备份替换现有的会议、节点和规则；请先停止主控服务器。\n\n原有的会写入数据文件夹中的一个文件。",
    ),
    (
        "master move-state",
        "把会议、节点和规则移到另一个数据库；请先停止主控服务器。\n\n之后请用 --state 加上新的数据库启动主控服务器；移到数据文件夹的，则不加 --state。",
    ),
    (
        "demo",
        "一键试用：主控服务器、几个节点和一个示例会议。\n\n全部在本机的临时文件夹中运行，结束时自动删除。按 Ctrl-C 结束。",
    ),
    (
        "bench",
        "会前演练：许多客户端同时下载一个会议包。\n\n每个客户端模拟一台平板；实时显示进度，结束后报告用时和失败原因。这会给节点和网络带来真实负载，会议期间请勿运行。",
    ),
    (
        "get",
        "下载一个会议包并校验。\n\n会跟随重定向，断线后续传；某个服务器失败时改用其他节点或主控服务器。下载完整并校验无误后才会出现 FILE；中断的下载保存在旁边的隐藏文件中，下次运行时继续。",
    ),
    (
        "verify",
        "按摘要校验所有已存储的会议包。\n\n由正在运行的节点执行；如果本机的存储没有节点在使用，则由本命令直接执行。损坏的会议包会被移除并重新拉取。",
    ),
    ("cast", "向节点上监听的程序发送消息。\n\n消息在过期之前一直保留：离线的节点恢复后会收到。"),
    (
        "completions",
        "输出命令行补全脚本。\n\nbash：edge-mirror completions bash > /etc/bash_completion.d/edge-mirror",
    ),
];

/// A command, or `*` for all that have it, the argument's id, its text.
const ARGUMENTS: &[(&str, &str, &str)] = &[
    ("*", "help", "显示帮助"),
    ("*", "version", "显示版本"),
    ("*", "json", "以 JSON 输出"),
    ("config get", "node", "正在运行的节点，例如 192.168.1.20:8001，代替配置文件"),
    ("config set", "node", "正在运行的节点，例如 192.168.1.20:8001，代替配置文件"),
    ("config check", "node", "正在运行的节点，例如 192.168.1.20:8001，代替配置文件"),
    ("*", "node", "节点，例如 192.168.1.20:8001；默认为本机的节点"),
    ("*", "master", "主控服务器，例如 192.168.1.10:8000；默认为本机的主控服务器"),
    ("*", "cacert", "用于 https://：只信任这个 CA 或服务器证书（PEM 文件），不再信任系统的 CA"),
    (
        "*",
        "token",
        "管理令牌，用于另一台机器上的服务器。最好写在环境变量 EDGE_MIRROR_TOKEN 中：本机的其他用户能看到命令行参数",
    ),
    (
        "*",
        "config",
        "本机节点的配置文件；默认为当前文件夹的 node_config.json，没有则用 /etc/edge-mirror 中的",
    ),
    ("cast", "text", "消息内容，最长 4 KiB；- 表示从标准输入读取"),
    ("cast", "to", "收到消息的节点：all、节点 ID、site:站点、label:标签 或 group:分组；可以重复"),
    ("cast", "topic", "主题：节点上的程序按它选择消息，同一主题的消息按顺序送达"),
    ("cast", "body_json", "TEXT 是 JSON，按原样发送"),
    ("cast", "priority", "紧急程度：low、normal、high 或 urgent；由节点上的程序自行处理"),
    ("cast", "expires", "离线的节点在这段时间内恢复，就会收到"),
    ("cast", "key", "相同的键和相同的消息只发送一次，重复执行也一样"),
    ("cast", "wait", "等到所有节点都收到，但不超过这段时间"),
    ("casts", "topic", "只列出这个主题的消息"),
    ("casts", "search", "只列出包含这段文字的消息"),
    ("casts", "limit", "列出最近的多少条"),
    ("casts", "follow", "持续显示新消息和送达情况，直到按 Ctrl-C"),
    ("*", "host", "监听的地址；0.0.0.0 表示仅 IPv4。默认监听本机所有 IPv4 和 IPv6 地址"),
    ("", "config", "配置文件；不存在则按默认值创建。其中的相对路径以它所在的文件夹为准"),
    ("", "port", "本次运行使用的端口，代替配置中的 nodePort；0 表示任选一个空闲端口"),
    ("node", "config", "配置文件；不存在则按默认值创建。其中的相对路径以它所在的文件夹为准"),
    ("node", "port", "本次运行使用的端口，代替配置中的 nodePort；0 表示任选一个空闲端口"),
    (
        "master",
        "config",
        "从这个 JSON 文件读取选项，名称与这里相同，不带前面的短横线。命令行优先于它，EDGE_MIRROR_MASTER_PORT 这样的环境变量也优先于它",
    ),
    ("master", "print_config", "以这种文件的形式打印生效的选项，然后退出"),
    ("master", "data", "存放会议和会议包的文件夹；不存在则创建"),
    (
        "master",
        "state",
        "把会议保存在 PostgreSQL 数据库中，例如 postgres://用户@主机/数据库，而不是数据文件夹中。密码请写在环境变量 PGPASSWORD 中：本机的其他用户能看到命令行参数",
    ),
    (
        "master",
        "packages",
        "把会议包放在多台主控服务器共用的存储中：s3://存储桶/前缀，或文件夹的绝对路径。数据文件夹中则是副本。S3 的访问凭据和服务器用通常的环境变量传入，例如 AWS_ACCESS_KEY_ID、AWS_SECRET_ACCESS_KEY、AWS_REGION 和 AWS_ENDPOINT_URL",
    ),
    (
        "master",
        "package_cache",
        "与 --packages 一起使用：数据文件夹中的副本最多占多少空间；进行中会议的副本始终保留。默认不限",
    ),
    ("master backup", "file", "要写入的文件；已有的会被替换"),
    ("master restore", "file", "edge-mirror master backup 写入的文件"),
    (
        "master move-state",
        "to",
        "移到哪里：一个空的 PostgreSQL 数据库，例如 postgres://用户@主机/数据库；sqlite 表示数据文件夹",
    ),
    ("master backup", "data", "主控服务器的数据文件夹"),
    ("master restore", "data", "主控服务器的数据文件夹"),
    ("master move-state", "data", "主控服务器的数据文件夹"),
    ("*", "state", "保存会议的 PostgreSQL 数据库（如果会议不在数据文件夹中）"),
    ("master", "port", "监听的端口；0 表示任选一个空闲端口"),
    (
        "master",
        "tls_cert",
        "用这个证书提供 HTTPS（PEM 文件，包含完整的证书链）；文件更新后自动生效",
    ),
    ("master", "tls_key", "证书的私钥（PEM 文件，不带密码）"),
    ("master", "redirect_port", "另外监听这个端口，把 HTTP 重定向到 HTTPS"),
    ("master", "demand_min", "按负载计算的节点数最少是多少"),
    ("master", "demand_max", "按负载计算的节点数最多是多少；默认不限制"),
    (
        "master",
        "demand_downloads",
        "一个节点最多承担多少个同时进行的下载，不论它报告的 CPU 和上行带宽如何",
    ),
    ("master", "demand_webhook", "按负载计算的节点数改变时，以 JSON 格式 POST 到这个网址"),
    (
        "master",
        "casts_max",
        "最多保留多少条消息，包括已过期的。超出时先删除已过期的；没有已过期的，则拒绝新消息",
    ),
    ("master", "casts_size", "保留的消息最多占多少空间；超出时同上"),
    ("master", "casts_days", "消息过期或取消后保留多少天"),
    ("master", "casts_expiry_days", "消息的有效期最长多少天"),
    ("master", "casts_body", "一条消息的正文最大多少"),
    ("master", "casts_batch", "一次请求最多发送多少条消息"),
    ("master", "casts_live_seconds", "刚刚断开的节点在多少秒内恢复连接，仍能收到实时消息"),
    ("master", "casts_subscribers", "最多同时有多少个程序在主控服务器上订阅消息"),
    ("master", "casts_groups", "最多有多少个节点分组"),
    ("master", "virtual_nodes", "最多有多少个虚拟节点：消息可以像发给节点一样发给它们"),
    (
        "master",
        "dispatch_root",
        "管理员可以按路径发送这个文件夹中的文件，无需上传；不跟随其中的链接。默认只能上传",
    ),
    ("master", "dispatch_max_active", "同时向节点发送多少个任务；其余的排队，紧急的在前"),
    (
        "master",
        "castray_port",
        "另外在这个端口上为 CastRay 客户端提供服务；该协议没有登录，只接受本机的请求",
    ),
    (
        "master",
        "castray_from",
        "也接受这个地址或网段的请求，可以写多次，或用逗号分隔。从那里可以向所有节点发送消息和文件",
    ),
    ("master", "castray_files", "CastRay 客户端的文件最多占多少空间"),
    ("master", "castray_messages", "最多向 CastRay 客户端显示多少条消息"),
    ("master", "castray_sockets", "CastRay 客户端最多同时有多少个 WebSocket 连接"),
    ("master", "allow_from", "只允许这个地址或网段管理会议，可以写多次。本机始终可以"),
    ("master", "trusted_proxy", "信任其 X-Forwarded-For 的反向代理，可以写多次"),
    (
        "master",
        "max_connections_per_client",
        "每个客户端地址最多可有多少个连接，IPv6 按 /64 网段计；0 表示全部连接数的四分之三",
    ),
    (
        "master",
        "no_trust_local",
        "在本机操作也需要登录：用于本机上不添加 X-Forwarded-For 的反向代理",
    ),
    ("master", "open", "能访问该端口的人无需登录即可管理会议"),
    (
        "master",
        "nodes",
        "接受哪些新节点：approve 表示等待管理员接受，提供节点密钥的和通过回环地址注册的除外；open 表示全部接受",
    ),
    ("*", "id", "节点 ID"),
    ("demo", "size", "示例会议包的大小"),
    ("demo", "clients", "模拟几台平板，它们会反复下载会议包"),
    ("demo", "nodes", "启动几个节点"),
    ("demo", "limit", "限制主控服务器的总发送速率，以便观察节点之间如何传递会议包"),
    ("demo", "masters", "启动几台主控服务器。多于一台时，它们和每个节点都是可以单独杀掉的进程"),
    (
        "demo",
        "postgres",
        "多台主控服务器使用的空 PostgreSQL 数据库，例如 postgres://用户@主机/数据库",
    ),
    ("demo", "s3", "多台主控服务器的会议包存储：s3://桶/前缀 或文件夹；默认为临时文件夹"),
    ("token", "new", "更换管理令牌；旧令牌和所有登录立即失效"),
    ("token", "config", "链接所登录的节点的配置文件"),
    ("token", "data", "用于主控服务器：它的数据文件夹"),
    ("token", "port", "它监听的端口；默认为配置中的 nodePort，主控服务器为 8000"),
    ("bench", "url", "节点，或把客户端重定向到节点的主控服务器，例如 192.168.1.20:8001"),
    ("bench", "meeting", "下载哪个会议的会议包（会议 ID）"),
    ("bench", "clients", "客户端的数量，各用一个连接"),
    ("bench", "arrive", "客户端在多长时间内陆续开始；0 表示同时开始"),
    ("bench", "rate_limit", "每个客户端的最高速率，例如 2MB/s：一台平板能分到的无线带宽"),
    ("bench", "verify", "与服务器给出的 SHA-256 比较"),
    ("bench", "patience", "多久收不到数据就放弃"),
    ("install", "main_server", "要同步的主控服务器；未给出时会询问"),
    ("install", "port", "提供服务的端口；未给出时会询问，默认 8001，主控服务器为 8000"),
    ("install", "yes", "不询问；未给出的保持原值或用默认值"),
    ("install", "root", "所有文件放在这个文件夹下，不执行系统命令：用于制作镜像，或查看会安装什么"),
    ("install", "master", "安装内置的主控服务器，而不是节点"),
    (
        "install",
        "adopt",
        "接管 Python 节点的文件夹：复制其中的 node_config.json 和会议包，原文件夹不变",
    ),
    ("uninstall", "purge", "同时删除配置、会议包、日志和用户 edge-mirror"),
    ("uninstall", "master", "移除内置的主控服务器，而不是节点"),
    ("uninstall", "root", "移除安装在这个文件夹下的内容"),
    ("completions", "shell", "哪一种 shell：bash、elvish、fish、powershell 或 zsh"),
    ("get", "url", "会议包在节点或主控服务器上的地址"),
    ("get", "output", "保存为哪个文件；已有的会被替换"),
    ("get", "retries", "所有服务器都不能提供时再试几次；有进展则重新计数"),
    ("get", "patience", "服务器多久没有数据就算失败"),
    ("status", "json", "以 JSON 输出节点的全部状态；与 --watch 同用时每秒一行"),
    ("status", "watch", "持续显示，按 Ctrl-C 结束"),
    ("status", "verbose", "同时显示技术信息：请求的地址和对方的响应"),
    ("verify", "no_repair", "只报告损坏的会议包，不作改动"),
    ("publish", "file", "会议包（ZIP 文件）"),
    ("publish", "title", "会议标题"),
    ("publish", "id", "会议 ID；默认由主控服务器生成"),
    ("publish", "time", "会议时间，任意文字；默认为现在"),
    ("publish", "no_start", "暂不开始会议"),
    ("push", "files", "要发送的文件；文件夹则发送其中所有文件，保留文件夹"),
    ("push", "to", "接收文件的节点：all、节点 ID、site:站点 或 label:标签，可以写多次"),
    ("push", "title", "给人看的标题；默认为第一个文件的名称"),
    ("push", "urgent", "先于其他任务发送"),
    ("push", "deadline", "不在线的节点在多久之内仍可收到；默认 7 天"),
    ("push", "keep", "节点一直保留文件，直到收回；默认保留到期限之后 30 天"),
    ("push", "open", "任何人都可以从节点下载；默认只有能管理节点的人可以"),
    ("push", "wait", "等到每个节点都已收到或失败；有节点失败则退出码为 3"),
    ("push", "json", "以 JSON 输出任务"),
    ("meetings", "json", "以 JSON 输出主控服务器返回的列表；与 --watch 同用时每秒一行"),
    ("meetings", "watch", "持续显示，按 Ctrl-C 结束；显示不下时，需要处理的会议在前"),
    ("ready", "id", "会议 ID"),
    ("ready", "wait", "等到所有节点都就绪，但最多等待这么久"),
    ("ready", "json", "以 JSON 输出结果，包括每个节点"),
    ("sync", "id", "会议 ID"),
    ("sync", "patience", "最多等待多久"),
    ("config get", "keys", "配置项，例如 mainServerIp 或 storage.maxSize；默认全部"),
    ("config set", "changes", "例如 syncInterval=5 或 storage.maxSize=50GB；KEY=null 表示清除"),
    ("config check", "changes", "要试的修改，例如 syncInterval=5"),
];

pub(super) fn of_command(name: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(command, _)| *command == name).map(|(_, text)| *text)
}

pub(super) fn detail(name: &str) -> Option<&'static str> {
    DETAILS.iter().find(|(command, _)| *command == name).map(|(_, text)| *text)
}

pub(super) fn of_argument(command: &str, id: &str) -> Option<&'static str> {
    let find = |command| ARGUMENTS.iter().find(|(c, i, _)| *c == command && *i == id);
    find(command).or_else(|| find("*")).map(|(_, _, text)| *text)
}

/// Headings between the examples.
const HEADINGS: &[(&str, &str)] = &[
    ("Examples:", "示例："),
    ("asks what it has to know", "询问所需的内容"),
    ("asks nothing", "不询问"),
    ("instead of a Python node", "替换 Python 节点"),
    ("a main server", "主控服务器"),
    ("Run it again with another version to upgrade in place.", "用新版本再运行一次即可升级。"),
    ("Exit codes: 0 done, 1 failed, 2 wrong arguments", "退出码：0 成功，1 失败，2 参数有误"),
    (
        "Exit codes: 0 all nodes are ready, 1 not, 2 wrong arguments or no such meeting",
        "退出码：0 所有节点都已就绪，1 没有，2 参数有误或没有这个会议",
    ),
    (", 3 the node has a problem", "，3 节点有问题"),
    (", 3 damage was found, repaired or not", "，3 发现损坏（无论是否修复）"),
    (", 3 check found mistakes", "，3 检查发现错误"),
    (".\n", "。\n"),
];

pub(super) fn headings(text: &str) -> String {
    let text = HEADINGS.iter().fold(format!("{text}\n"), |text, (en, zh)| text.replace(en, zh));
    text.trim_end().to_owned()
}
