// Texts of virtual nodes, [中文, English].

export default {
  virtual: {
    what: ["虚拟节点是一个名称，消息可以像发给节点一样发给它，供没有自己的节点的程序取用。不能向它发送文件。", "A virtual node is a name to which messages go as to a node, for programs without a node of their own. Files can't be sent to it."],
    none: ["没有虚拟节点。", "There are no virtual nodes."],
    add: ["创建虚拟节点", "New virtual node"],
    more: ["显示更多", "Show more"],
    rest: ["另有 {n} 个", "{n} more"],
    edit: ["修改", "Edit"],
    "edit.title": ["修改虚拟节点", "Edit the virtual node"],
    "of.site": ["站点 {site}", "site {site}"],
    "of.labels": ["标签 {labels}", "labels {labels}"],
    created: ["创建于 {time}", "created {time}"],
    "id.label": ["名称", "Name"],
    "id.help": ["程序用它取消息，例如 door-display。以后不能修改。", "Programs get messages by it, for example door-display. It can't be changed later."],
    "site.label": ["站点（可选）", "Site (optional)"],
    "site.help": ["发给这个站点的消息也会发给它。", "Messages to this site are for it, too."],
    "labels.label": ["标签（可选）", "Labels (optional)"],
    "labels.help": ["用逗号分隔。发给其中任意标签的消息也会发给它。", "With commas between them. Messages to one of them are for it, too."],
    save: ["保存", "Save"],
    saved: ["虚拟节点已保存。", "The virtual node was saved."],
    remove: ["删除", "Delete"],
    "remove.title": ["删除这个虚拟节点？", "Delete this virtual node?"],
    "remove.what": ["以后不能再发给它，程序也取不到还在等待的消息。", "Nothing can be sent to it any more, and programs don't get what still waits for it."],
    removed: ["虚拟节点已删除。", "The virtual node was deleted."],
    wrong: {
      id: ["请填写名称。", "Enter a name."],
      taken: ["已有这个名称的虚拟节点。", "There is a virtual node with this name already."],
    },
  },
};
