//! Work that the node runs for operators at the main server.

use crate::setting::{DefaultValue, SettingGroup, SettingKind, boolean, integer, setting, words};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "tasks",
    title: words("远程任务", "Remote tasks"),
    settings: &[
        boolean("tasks.enabled", false)
            .titled("运行远程任务", "Run remote tasks")
            .described(
                "运行管理员在本项目的主控服务器上提交的任务：内置的几种，以及 tasks.folder 中声明的。",
                "Run tasks that operators submit at this project's main server: the built-in types, and those that tasks.folder declares.",
            )
            .cautioned(
                "主控服务器的管理员可以在本机运行这里声明的程序；从不运行其他程序或命令。",
                "Operators of the main server can run the programs declared here on this machine, and never any other program or command.",
            ),
        setting("tasks.folder", SettingKind::Path, DefaultValue::Text("./tasks.d"))
            .titled("任务类型的文件夹", "Folder of task types")
            .described(
                "声明任务类型的文件夹，每种一个 TOML 文件；可用 edge-mirror tasks check 检查。",
                "The folder with the declarations of task types, a TOML file each; edge-mirror tasks check checks them.",
            )
            .advanced(),
        integer("tasks.places", 1, 100, 2)
            .titled("同时运行的任务数", "Tasks at a time")
            .described(
                "最多同时运行多少个任务；每种类型还有自己的限制。",
                "How many tasks run at a time. Types have limits of their own besides.",
            )
            .advanced(),
    ],
};
