//! Files that operators send from the main server.

use crate::setting::{DefaultValue, SettingGroup, SettingKind, boolean, setting, words};

pub(super) const GROUP: SettingGroup = SettingGroup {
    name: "dispatch",
    title: words("文件分发", "Dispatch"),
    settings: &[
        boolean("dispatch.enabled", true)
            .titled("接收文件", "Take files")
            .described(
                "从本项目的主控服务器接收管理员发送的文件，保存在存储目录中。",
                "Take the files that operators send at this project's main server, and keep them in the storage folder.",
            ),
        setting("dispatch.maxSize", SettingKind::Size { min: 1 << 20 }, DefaultValue::Null)
            .titled("文件的存储上限", "Limit of files")
            .described(
                "所有文件最多占用的空间，包含在 storage.maxSize 之内，其余留给会议包；留空表示 storage.maxSize（磁盘放不下这么多时，为磁盘能放下的）的一半。",
                "Maximum space for all files together, within storage.maxSize: the rest is left to packages. Empty: half of storage.maxSize, or of what the disk has for it where that is less.",
            ),
        setting("dispatch.dropFolder", SettingKind::Path, DefaultValue::Null)
            .titled("投放文件夹", "Drop folder")
            .described(
                "校验通过的文件还会以原名复制到这个文件夹，同名文件会被替换；留空表示不复制。",
                "Files that have been verified are also copied to this folder under their own names, and replace those of the same name. Empty: they are not.",
            )
            .cautioned(
                "主控服务器的管理员可以替换这个文件夹中的任何文件；请勿填写系统文件夹。",
                "Operators of the main server can replace any file in this folder: do not name one of the system's.",
            ),
        setting(
            "dispatch.dropMode",
            SettingKind::Choice(&["0600", "0640", "0644", "0660", "0664", "0755"]),
            DefaultValue::Text("0644"),
        )
        .titled("投放文件的权限", "Mode of dropped files")
        .described(
            "投放文件夹中文件的权限（八进制）。",
            "The permissions of files in the drop folder, in octal.",
        )
        .advanced(),
    ],
};
