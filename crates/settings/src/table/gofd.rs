//! The node as an agent of a GoFD server.

use crate::setting::{
    DefaultValue, PORT, SettingGroup, SettingKind, boolean, secret, setting, words,
};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "gofd",
    title: words("GoFD", "GoFD"),
    settings: &[
        boolean("gofd.agent", false)
            .titled("作为 GoFD 的 Agent", "Agent of GoFD")
            .described(
                "为现有的 GoFD 服务端充当 Agent：接收其任务，把文件写入 gofd.downDir，并供下一个 Agent 下载。",
                "Be an agent of an existing GoFD server: take its tasks, write the files to gofd.downDir, and let the next agent pull them from here.",
            ),
        setting("gofd.ip", SettingKind::Host, DefaultValue::Null)
            .titled("本机地址", "Address")
            .described(
                "监听的 IP 地址，也是任务的 destIPs 中本机的写法。",
                "The IP address to listen on, as destIPs of a task has it.",
            )
            .advanced(),
        setting("gofd.mgntPort", PORT, DefaultValue::Int(45010))
            .titled("管理端口", "Management port")
            .described(
                "GoFD 服务端配置中的 agentMgntPort。",
                "The agentMgntPort of the GoFD server's configuration.",
            )
            .advanced(),
        setting("gofd.dataPort", PORT, DefaultValue::Int(45011))
            .titled("数据端口", "Data port")
            .described(
                "GoFD 服务端配置中的 agentDataPort。",
                "The agentDataPort of the GoFD server's configuration.",
            )
            .advanced(),
        setting("gofd.username", SettingKind::Label { max_chars: 60 }, DefaultValue::Text("gofd"))
            .titled("用户名", "User")
            .described(
                "GoFD 配置中的 auth.username。",
                "The auth.username of GoFD's configuration.",
            )
            .advanced(),
        secret("gofd.password", 1)
            .titled("密码的密文", "Encrypted password")
            .described(
                "GoFD 配置中的 auth.password（或 passowrd），即密文；可用 edge-mirror gofd-password 生成。",
                "The auth.password (or passowrd) of GoFD's configuration, which is encrypted; edge-mirror gofd-password makes one.",
            )
            .advanced(),
        setting("gofd.factor", SettingKind::Label { max_chars: 64 }, DefaultValue::Text(""))
            .titled("密码的 factor", "Factor of the password")
            .described("GoFD 配置中的 auth.factor。", "The auth.factor of GoFD's configuration.")
            .advanced(),
        setting("gofd.downDir", SettingKind::Path, DefaultValue::Null)
            .titled("下载文件夹", "Download folder")
            .described(
                "写入文件的文件夹，相当于 GoFD 配置中的 downdir；同名文件会被替换。",
                "The folder for the files, the downdir of GoFD's configuration. Files of the same name are replaced.",
            )
            .cautioned(
                "能使用 GoFD 服务端的人可以替换这个文件夹中的任何文件；请勿填写系统文件夹。",
                "Users of the GoFD server can replace any file in this folder: do not name one of the system's.",
            )
            .advanced(),
        boolean("gofd.tls", false)
            .titled("用 HTTPS", "HTTPS")
            .described(
                "GoFD 配置中有 net.tls 时开启：管理端口用节点的证书（tls.cert）提供 HTTPS，并用 HTTPS 上报。",
                "Turn on where GoFD's configuration has net.tls: the management port speaks HTTPS with the node's certificate (tls.cert), and reports go by HTTPS.",
            )
            .advanced(),
    ],
};
