// Texts of the choice of nodes that something is sent to, [中文, English].

export default {
  to: {
    name: ["发给", "To"],
    choose: ["选择节点、站点、标签或分组…", "Choose nodes, sites, labels or groups…"],
    "choose.members": ["选择节点或站点…", "Choose nodes or sites…"],
    add: ["添加", "Add"],
    all: ["所有节点", "All nodes"],
    everybody: ["所有节点", "all nodes"],
    groups: ["分组", "Groups"],
    sites: ["站点", "Sites"],
    labels: ["标签", "Labels"],
    nodes: ["节点", "Nodes"],
    virtual: ["虚拟节点", "Virtual nodes"],
    remove: ["移除 {name}", "Remove {name}"],
    more: ["{names} 等 {n} 个", "{names} and {rest} more"],
    wrong: ["请选择发给谁。", "Choose who gets it."],
  },
};
