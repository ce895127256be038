//! The ways a client's download fails, and what to do about them. Equal ones are counted
//! together, so they contain nothing of one client alone.

use crate::terminal::Language;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientFailure {
    Connect {
        to: String,
        cause: String,
    },
    /// Nothing came for as long as clients wait.
    Silent {
        from: String,
    },
    Broken {
        from: String,
        cause: String,
    },
    Refused {
        from: String,
        status: u16,
        answer: String,
    },
    /// Redirected to an unusable URL, or in a loop.
    Astray {
        from: String,
        location: String,
    },
    /// Complete, but not as long as elsewhere.
    OtherLength {
        from: String,
        got: u64,
        expected: u64,
    },
    /// Its `Repr-Digest` does not match.
    Damaged {
        from: String,
    },
    /// No digest to verify it with.
    NoDigest {
        from: String,
    },
}

impl ClientFailure {
    /// Returns its name in JSON.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Silent { .. } => "silent",
            Self::Broken { .. } => "broken",
            Self::Refused { .. } => "refused",
            Self::Astray { .. } => "astray",
            Self::OtherLength { .. } => "length",
            Self::Damaged { .. } => "digest",
            Self::NoDigest { .. } => "no_digest",
        }
    }

    pub(super) fn what(&self, language: Language) -> String {
        match self {
            Self::Connect { to, cause } => language
                .of(format!("无法连接 {to}：{cause}"), format!("cannot connect to {to}: {cause}")),
            Self::Silent { from } => language
                .of(format!("{from} 长时间没有数据"), format!("{from} sent nothing for too long")),
            Self::Broken { from, cause } => language.of(
                format!("与 {from} 的连接中断：{cause}"),
                format!("the connection to {from} broke: {cause}"),
            ),
            Self::Refused { from, status, answer } => language.of(
                format!("{from} 返回 {status}：{answer}"),
                format!("{from} answered {status}: {answer}"),
            ),
            Self::Astray { from, location } => language.of(
                format!("{from} 重定向到无法访问的地址 {location}"),
                format!("{from} redirects to {location}, which can't be followed"),
            ),
            Self::OtherLength { from, got, expected } => language.of(
                format!("{from} 的会议包是 {got} 字节，而不是 {expected} 字节"),
                format!("the package of {from} has {got} bytes, not {expected}"),
            ),
            Self::Damaged { from } => language.of(
                format!("{from} 发来的内容与其 SHA-256 不符"),
                format!("the bytes from {from} are not those of the SHA-256 that it named"),
            ),
            Self::NoDigest { from } => language.of(
                format!("{from} 没有给出 SHA-256"),
                format!("{from} names no SHA-256 to compare with"),
            ),
        }
    }

    /// Returns what to do or where to look.
    pub(super) fn advice(&self, language: Language) -> &'static str {
        let (chinese, english) = match self {
            Self::Connect { .. } => (
                "确认它正在运行，且从本机可以访问该地址和端口（防火墙？）",
                "is it running, and can its address and port be reached from here (firewall)?",
            ),
            Self::Silent { .. } => (
                "节点或网络过载：查看节点页面；或减少客户端、延长 --patience",
                "the node or the network has too much to do: see the node's page, take fewer \
                 clients, or more --patience",
            ),
            Self::Broken { .. } => ("查看它此时的日志", "see what it logged at that time"),
            Self::Refused { status: 404, .. } => (
                "会议是否正在进行，会议包是否已同步？查看主控服务器和节点的页面",
                "is the meeting running, and its package synced? see the main server's and the \
                 node's page",
            ),
            Self::Refused { status: 503, .. } => (
                "服务已停止、暂时无法提供，或达到 serve.maxDownloads、serve.maxPerClient、serve.maxConnectionsPerClient 的上限：查看节点页面",
                "its service is stopped, can't serve for the moment, or has as many clients as \
                 serve.maxDownloads, serve.maxPerClient or serve.maxConnectionsPerClient allows: \
                 see the node's page",
            ),
            Self::Refused { .. } => ("查看它的日志", "see its log"),
            Self::Astray { .. } => (
                "检查该节点公布的地址（publicIp、publicPort）",
                "check the address that this node advertises (publicIp, publicPort)",
            ),
            Self::OtherLength { .. } => (
                "它的版本不同：在它的页面上查看是否已同步",
                "it has another version: see on its page whether it is synced",
            ),
            Self::Damaged { .. } => (
                "传输途中被改动（代理？），或磁盘有问题：在该节点上重新同步会议包",
                "something on the way changes them (a proxy?), or its disk fails: have it pull \
                 the package again",
            ),
            Self::NoDigest { .. } => (
                "旧版节点和主控服务器不提供：去掉 --verify",
                "old nodes and main servers don't: leave out --verify",
            ),
        };
        language.of(chinese, english)
    }
}
