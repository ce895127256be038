//! Passing packages on to other nodes.

use crate::setting::{
    DefaultValue, SettingGroup, SettingKind, bandwidth, boolean, integer, schedule, secret,
    setting, words,
};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "relay",
    title: words("节点互传", "Between nodes"),
    settings: &[
        boolean("relay.enabled", true)
            .titled("节点之间互传", "Pass packages between nodes")
            .described(
                "节点之间互相传递会议包，主控服务器每个会议包只需发送一次左右。使用本项目的主控服务器时无需其他设置；使用其他主控服务器时，各节点须设置相同的互传密钥。关闭则始终直接从主控服务器拉取，也不传给其他节点。",
                "Nodes pass packages on to each other, so that the main server sends each about once. With this project's main server, nothing else needs to be set; under others, all nodes need the same relay key. Off: this node pulls from the main server only, and gives other nodes nothing.",
            ),
        secret("relay.key", 16)
            .titled("互传密钥", "Relay key")
            .described(
                "使用其他主控服务器时，互相传递会议包的节点须设置相同的密钥，借此互相确认身份；没有密钥则各自直接拉取。本项目的主控服务器会自行把密钥告知节点，此项留空即可。从不显示。",
                "Under a main server of another kind, nodes that pass packages to each other need the same key, by which they recognize each other; without one, each pulls for itself. This project's main server gives its nodes a key by itself: leave this empty there. Never shown.",
            )
            .generated(),
        integer("relay.maxChildren", 0, 64, 4)
            .titled("同时服务的节点数", "Other nodes at a time")
            .described(
                "最多同时有多少个其他节点从本节点拉取；不占用平板的下载数量。0 表示不传给其他节点。",
                "How many other nodes may pull from this one at a time. They don't count as tablets' downloads. 0: none.",
            )
            .advanced(),
        bandwidth("relay.uploadLimit")
            .titled("互传上行带宽（每秒）", "Upload to other nodes, per second")
            .described(
                "所有其他节点合计每秒最多从本节点接收的字节数；0 表示不限制。",
                "Bytes that this node may send to all other nodes together per second. 0: no limit.",
            ),
        setting("relay.address", SettingKind::Address, DefaultValue::Null)
            .titled("供其他节点使用的地址", "Address for other nodes")
            .described(
                "其他节点访问本节点所用的地址，与检测到的不同时填写；不写端口则为节点端口。留空则自动检测。",
                "Address at which other nodes reach this one, if it is not the detected one. Without a port: the node's. Empty: detected automatically.",
            )
            .advanced(),
        schedule("relay.schedule")
            .titled("互传的分时限速", "Upload by the hour")
            .described(
                "按本机时间限制其他节点拉取文件、以及在会议开始前预先拉取会议包时的上行带宽（合计每秒），每行一个时段：08:00-18:00 10MB；off 表示该时段内不传；其余时间不限制。时段可跨午夜，不能重叠。已开始的会议不受影响。",
                "Limits what other nodes that pull files, or a package before its meeting is started, receive from this one, together per second, in ranges of local time: 08:00-18:00 10MB; off: nothing in that time. At other times there is no limit. Ranges may cross midnight and must not overlap. Meetings that have started are not affected.",
            )
            .advanced(),
    ],
};
