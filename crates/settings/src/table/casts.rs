//! Messages from the main server.

use crate::setting::{
    DefaultValue, SettingGroup, SettingKind, boolean, integer, setting, size, words,
};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "casts",
    title: words("消息", "Casts"),
    settings: &[
        boolean("casts.enabled", true)
            .titled("接收消息", "Receive casts")
            .described(
                "从本项目的主控服务器接收管理员发送的消息，保存在本机，供本机程序订阅。",
                "Receive the messages that operators send at this project's main server, and keep them here for programs that follow them.",
            ),
        setting(
            "casts.showOnPanel",
            SettingKind::Label { max_chars: 200 },
            DefaultValue::Text("notice"),
        )
        .titled("管理页面上显示的消息", "Casts shown on the panel")
        .described(
            "这个主题的消息会显示在管理页面的概览中，只有管理员能看到；留空表示不显示。",
            "The topic of the casts that the panel's overview shows to operators. Empty: none.",
        ),
        integer("casts.maxCount", 1, 100_000, 1000)
            .titled("保留的消息数", "Casts kept")
            .described(
                "最多保留多少条消息；超出时删除最旧的。",
                "How many casts are kept. The oldest ones go first.",
            )
            .advanced(),
        size("casts.maxBytes", 64 << 10, 4 << 20)
            .titled("消息占用的空间", "Space for casts")
            .described(
                "保留的消息合计最多占多少字节，内存和磁盘各一份；超出时删除最旧的。",
                "How many bytes the kept casts may take, in memory and once more on disk. The oldest ones go first.",
            )
            .advanced(),
        integer("casts.maxAgeDays", 1, 365, 7)
            .titled("消息保留天数", "Days casts are kept")
            .described(
                "收到后保留多少天。",
                "How many days casts are kept after they came.",
            )
            .advanced(),
        integer("casts.maxConsumers", 1, 10_000, 1000)
            .titled("订阅程序的数量", "Programs that follow casts")
            .described(
                "最多同时有多少个程序订阅消息；更多的会被拒绝。",
                "How many programs may follow casts at a time. Others are refused.",
            )
            .advanced(),
        integer("casts.pingInterval", 1, 3600, 20)
            .titled("WebSocket 探测间隔", "WebSocket ping interval")
            .described(
                "程序在 WebSocket 上沉默多久后，询问它是否还在；在 casts.idleTimeout 之内至少询问一次。",
                "How long a program on a WebSocket may be silent until it is asked whether it is there; at least once within casts.idleTimeout.",
            )
            .in_unit("s")
            .advanced(),
        integer("casts.idleTimeout", 2, 3600, 60)
            .titled("WebSocket 空闲超时", "WebSocket idle timeout")
            .described(
                "程序在 WebSocket 上沉默或不读取多久后断开。",
                "How long a program on a WebSocket may be silent, or not read, until it is disconnected.",
            )
            .in_unit("s")
            .advanced(),
        integer("casts.maxFrame", 125, 65_536, 4096)
            .titled("WebSocket 消息大小", "Message size on WebSockets")
            .described(
                "程序在 WebSocket 上发来的一条消息最多有多少字节；更大的会断开连接。",
                "How many bytes a message from a program on a WebSocket may have. A larger one ends the connection.",
            )
            .advanced(),
        boolean("casts.allowSend", false)
            .titled("允许本机程序发送消息", "Let programs send casts")
            .described(
                "本节点的程序可以通过主控服务器向其他节点发送消息（POST /api/casts）；主控服务器记下是哪个节点。",
                "Programs at this node may send casts to other nodes, by way of the main server (POST /api/casts). It notes which node they come from.",
            )
            .advanced(),
    ],
};
