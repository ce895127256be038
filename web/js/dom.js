// Building and changing the page. Texts only ever become text nodes, so what
// a server sends can't be markup. Changes touch only what differs: focus,
// scrolling, selections and open details survive a live update.

const SVG = "http://www.w3.org/2000/svg";

// el("button.quiet", { id: "copy", onclick: copy }, "Copy"): the tag with its
// classes, then attributes and listeners if there are any, then children. Of
// all, those that are null, undefined or false are left out.
export const el = (tag, ...rest) => dress((name) => document.createElement(name), tag, rest);
export const svg = (tag, ...rest) => dress((name) => document.createElementNS(SVG, name), tag, rest);

function dress(create, tag, rest) {
  const [name, ...classes] = tag.split(".");
  const node = create(name);
  const attributes = rest[0]?.constructor === Object ? rest.shift() : {};
  if (classes.length > 0) node.setAttribute("class", classes.join(" "));
  // Else it would send the form that it stands in.
  if (name === "button") node.type = "button";
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node[name] = value;
    else setAttribute(node, name, value);
  }
  node.append(...rest.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

// Puts exactly these children in, leaving alone those that are there already.
export function setChildren(parent, children) {
  const wanted = children.filter(Boolean);
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const stay = new Set(wanted);
  for (const child of [...parent.childNodes]) if (!stay.has(child)) child.remove();
  wanted.forEach((child, index) => {
    const there = parent.childNodes[index] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
  // Moving a node takes the focus away from it.
  if (focused !== document.activeElement && parent.contains(focused)) focused?.focus({ preventScroll: true });
}

// A list whose entries are made once and then updated: `make(item)` gives
// `{ node, update(item) }`. Returns the function that shows a list of items.
export function keyedList(parent, keyOf, make) {
  let entries = new Map();
  const show = (items) => {
    const next = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const entry = entries.get(key) ?? make(item);
      entry.update(item);
      next.set(key, entry);
    }
    entries = next;
    setChildren(parent, [...next.values()].map((entry) => entry.node));
  };
  show.entries = () => entries.values();
  return show;
}

// Text of unknown direction (titles may hold right-to-left marks): kept from
// turning round what stands beside it.
export const foreign = (text, classes = "") => el(`bdi${classes}`, text);
