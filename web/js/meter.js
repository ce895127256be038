// Bars. Their width is set through the CSSOM, which the content security
// policy allows where it forbids `style` attributes.

import { el, setAttribute, setHidden } from "./dom.js";

// A level, with an optional mark (a threshold). `update` takes shares of 1;
// `tone` is null while all is well.
export function meter(label, { id = null } = {}) {
  const fill = el("span.meter-fill");
  const mark = el("span.meter-mark", { hidden: true });
  const node = el(
    "div.meter",
    { id, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 },
    fill,
    mark,
  );
  return {
    node,
    update({ share, text, tone = null, markAt = null }) {
      const bounded = Math.min(1, Math.max(0, share || 0));
      fill.style.setProperty("width", `${bounded * 100}%`);
      setAttribute(node, "data-tone", tone);
      setAttribute(node, "aria-valuenow", Math.round(bounded * 100));
      setAttribute(node, "aria-valuetext", text);
      setHidden(mark, markAt === null);
      mark.style.setProperty("left", `${Math.min(1, markAt) * 100}%`);
    },
  };
}

// Progress of a transfer; `share` null while the whole is not known.
export function progress(label) {
  const node = el("progress.progress", { max: "1", "aria-label": label });
  return {
    node,
    update(share) {
      if (share === null) node.removeAttribute("value");
      else setAttribute(node, "value", Math.min(1, Math.max(0, share)).toFixed(4));
    },
  };
}
