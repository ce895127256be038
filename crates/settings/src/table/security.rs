//! Access to what is not open to everybody, and the key that the main server requires.

use crate::setting::{DefaultValue, SettingGroup, SettingKind, boolean, secret, setting, words};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "security",
    title: words("安全", "Security"),
    settings: &[
        boolean("security.open", false)
            .titled("无需登录", "No login")
            .described(
                "开启后任何能访问本端口的人都可以修改配置、停止服务，与旧版节点一样。",
                "Anyone who can reach this port may change the configuration and stop the service, as with the old node.",
            )
            .cautioned(
                "任何能访问本端口的人都将拥有管理员权限。",
                "Anyone who can reach this port becomes an operator.",
            ),
        boolean("security.trustLocal", true)
            .titled("本机免登录", "No login on this machine")
            .described(
                "在本机操作不需要登录。如果本机上有不添加 X-Forwarded-For 的反向代理，请关闭。",
                "No login is needed on the machine itself. Turn this off if a reverse proxy on this machine does not add X-Forwarded-For.",
            )
            .cautioned(
                "关闭后，本机也需要登录或管理令牌；请先确认您能登录。",
                "When off, this machine needs a login or the token, too: make sure you can log in.",
            )
            .advanced(),
        setting("security.allowFrom", SettingKind::Networks, DefaultValue::EmptyList)
            .titled("允许管理的地址", "Addresses that may manage")
            .described(
                "只有这些地址和网段可以登录和管理；留空表示不限制。本机始终可以。不影响会议包下载。",
                "Only these addresses and networks may log in and manage the node. Empty: any. The machine itself always may. Downloads are not affected.",
            )
            .cautioned(
                "不在列表中的地址将立即无法管理本节点。",
                "Addresses that are not on the list can no longer manage this node.",
            ),
        setting("security.trustedProxies", SettingKind::Networks, DefaultValue::EmptyList)
            .titled("可信的反向代理", "Trusted proxies")
            .described(
                "这些代理转发的请求，以其 X-Forwarded-For 和 X-Forwarded-Proto 为准。",
                "Proxies whose X-Forwarded-For and X-Forwarded-Proto headers are believed.",
            )
            .advanced(),
        secret("security.mainServerKey", 8)
            .titled("主控服务器密钥", "Main server's key")
            .described(
                "主控服务器要求节点提供密钥时填写，作为 X-API-Key 发送；从不显示。",
                "The key that the main server requires of its nodes, if it does. Sent as X-API-Key, never shown.",
            ),
    ],
};
