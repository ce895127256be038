// Texts of groups of nodes, [中文, English].

export default {
  groups: {
    what: ["分组是一些节点的名称，发送消息和文件时可以选它。", "A group is a name for some nodes. Messages and files can be sent to it."],
    none: ["没有分组。", "There are no groups."],
    add: ["创建分组", "New group"],
    edit: ["修改", "Edit"],
    "edit.title": ["修改分组", "Edit the group"],
    now: [(p) => `现有 ${p.n} 个节点`, (p) => `${p.n} node${p.n === 1 ? "" : "s"} now`],
    empty: ["现在没有节点", "no nodes now"],
    "of.nodes": ["节点：{names}", "nodes: {names}"],
    "of.sites": ["站点：{names}", "sites: {names}"],
    "of.labels": ["标签：{names}", "labels: {names}"],
    members: ["现有节点", "Nodes in it now"],
    rest: ["另有 {n} 个节点", "and {n} more"],
    "name.label": ["名称", "Name"],
    "name.help": ["例如“三楼屏幕”。已有的分组不能改名。", "For example “Screens on floor 3”. It can't be changed later."],
    "to.label": ["节点和站点", "Nodes and sites"],
    "labels.label": ["标签表达式（可选）", "Labels (optional)"],
    "labels.help": [
      "节点的标签，可以用 &（且）、|（或）、!（非）和括号，例如 屏幕 & !(旧 | 备用)。有空格的标签加引号。",
      "Labels of nodes with & (and), | (or), ! (not) and parentheses, such as screen & !(old | spare). Quote labels that have spaces.",
    ],
    "any.help": ["列出的节点、站点中的节点和标签符合的节点都在分组中。", "Nodes that are listed, that are at one of the sites, or whose labels match are all in the group."],
    save: ["保存", "Save"],
    saved: ["分组已保存。", "The group was saved."],
    remove: ["删除", "Delete"],
    "remove.title": ["删除这个分组？", "Delete this group?"],
    "remove.what": ["以后不能再发给它。已经发送的消息和文件仍会到达当时分组中的节点。", "Nothing can be sent to it any more. What was sent already still reaches the nodes that were in it then."],
    removed: ["分组已删除。", "The group was deleted."],
    wrong: {
      name: ["请填写名称，最长 200 字节（约 66 个汉字）。", "Enter a name of at most 200 bytes."],
      taken: ["已有这个名称的分组。", "There is a group with this name already."],
      nothing: ["请选择节点或站点，或填写标签表达式。", "Choose nodes or sites, or enter labels."],
    },
  },
};
