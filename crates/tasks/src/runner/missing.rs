//! Limits that could not be set on this machine: status and documentation say so.

use serde::{Deserialize, Serialize};

use crate::BilingualText;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingLimit {
    /// No control group of its own: memory, CPU and processes are looked at several times
    /// a second, and killed when they exceed what is declared.
    ControlGroup,
    /// The kernel does not keep count of its processes.
    Processes,
    /// The kernel does not limit the memory of each process.
    Memory,
    /// The kernel does not limit the CPU time of each process.
    Cpu,
    /// The size of files is not limited.
    FileSize,
    Priority,
    /// Without landlock, it can use all files that the user can.
    Folders,
    /// It can use the network, at least for datagrams.
    Network,
    /// It can gain rights by programs that have them.
    NewPrivileges,
    /// It can send signals to other processes of its user, its runner among them.
    Signals,
    /// It inherits what whoever started the node has left open.
    Descriptors,
}

impl MissingLimit {
    pub fn wording(self) -> BilingualText {
        let (zh, en) = match self {
            Self::ControlGroup => (
                "没有独立的 cgroup：内存、CPU 和进程数每秒检查数次，超出时终止",
                "no control group of its own: memory, CPU and processes are checked several times a second, and killed beyond the limit",
            ),
            Self::Processes => (
                "内核不限制进程数（以 root 运行，或不允许设置）",
                "the kernel does not limit processes (run as root, or not allowed)",
            ),
            Self::Memory => {
                ("内核不限制每个进程的内存", "the kernel does not limit the memory of a process")
            }
            Self::Cpu => (
                "内核不限制每个进程的 CPU 时间",
                "the kernel does not limit the CPU time of a process",
            ),
            Self::FileSize => ("不限制文件大小", "the size of files is not limited"),
            Self::Priority => ("不能降低优先级", "the priority can't be lowered"),
            Self::Folders => (
                "没有 landlock：任务可以访问该用户能访问的所有文件",
                "no landlock: a task can use all files that the user can",
            ),
            Self::Network => ("不能完全阻止访问网络", "the network can't be denied altogether"),
            Self::Signals => (
                "任务可以向同一用户的其他进程发送信号",
                "a task can send signals to other processes of its user",
            ),
            Self::Descriptors => (
                "启动节点的程序留下了打开的描述符，任务会继承",
                "whoever started the node left descriptors open, which tasks inherit",
            ),
            Self::NewPrivileges => ("不能禁止获得新权限", "new privileges can't be forbidden"),
        };
        BilingualText::new(zh, en)
    }
}
