// Views and cards that are fetched when they are first looked at, and again if that failed.

import { el, setChildren } from "../dom.js";
import { view } from "../parts.js";

// `load()` resolves to what is shown in `node` then: { node, update(event), tick?() }.
function loaded(node, load, shown) {
  let made = null;
  let loading = false;

  async function start(event) {
    loading = true;
    try {
      made = await load();
    } catch {
      return; // The server is away; the next event is a reason to try again.
    } finally {
      loading = false;
    }
    shown(made);
    made.update(event);
  }

  return {
    node,
    update(event) {
      if (made) made.update(event);
      else if (!loading) start("shown");
    },
    tick: () => made?.tick?.(),
  };
}

export const loadedView = (id, load) => (context) => {
  const node = el("div", view(id));
  return loaded(node, async () => (await load())(context), (made) => {
    const focused = node.contains(document.activeElement);
    setChildren(node, [made.node]);
    if (focused) node.querySelector("h1").focus({ preventScroll: true });
  });
};

export function loadedCard(load) {
  const node = el("div", { hidden: true });
  return loaded(node, load, (made) => {
    node.append(made.node);
    node.hidden = false;
  });
}
