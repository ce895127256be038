// The icons: lines on a grid of 24, drawn in the colour of the text. They
// only repeat what words say, so they are hidden from screen readers.

import { svg } from "./dom.js";

const RING = "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z";
const DOWN = "M12 3v11M7.5 9.8 12 14.3l4.5-4.5M4 20h16";

const PATHS = {
  good: RING + "M8 12.2l2.8 2.8L16 9.6",
  warning: "M12 4 2.8 20h18.4zM12 10v4.5M12 17.4v.1",
  error: RING + "M12 7.5v5.5M12 16.4v.1",
  info: RING + "M12 11v5.5M12 7.6v.1",
  stopped: RING + "M9.2 9.2h5.6v5.6H9.2z",
  wait: RING + "M12 7.5V12l3 2",
  busy: DOWN,
  check: "M4 12.5 9.5 18 20 7",
  download: DOWN,
  sync: "M20 11a8 8 0 0 0-14.3-4L4 9M4 4v5h5M4 13a8 8 0 0 0 14.3 4l1.7-2M20 20v-5h-5",
  remove: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13M10 11v5.5M14 11v5.5",
  start: "M7 4.5v15l12-7.5z",
  stop: "M6 6h12v12H6z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  show: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  reset: "M4 4v5h5M4.6 9A8 8 0 1 1 4 13",
  language: RING + "M3 12h18M12 3c5 5 5 13 0 18M12 3c-5 5-5 13 0 18",
  login: "M14 4h5v16h-5M3 12h11M10 8l4 4-4 4",
  logout: "M10 4H5v16h5M9 12h12M17 8l4 4-4 4",
  overview: "M4 4h7v9H4zM13 4h7v5h-7zM13 11h7v9h-7zM4 15h7v5H4z",
  meetings: "M5 4h9l5 5v11H5zM14 4v5h5M8.5 13h7M8.5 16.5h5",
  traffic: "M3 20h18M4 15l4.5-5 4 3.5L20 5",
  config: "M4 7h9M17 7h3M15 4.8v4.4M4 17h3M11 17h9M9 14.8v4.4",
  logs: "M4 5h16M4 10h16M4 15h16M4 20h9",
  nodes: "M4 4h16v6H4zM4 14h16v6H4zM7.5 7h.1M7.5 17h.1",
  relay: "M9.5 3h5v5h-5zM3 16h5v5H3zM16 16h5v5h-5zM12 8v4M5.5 16v-4h13v4",
  messages: "M4 5h16v11H10l-5 4v-4H4zM8 9h8M8 12h5",
  files: "M3 6h6.5l2.5 2.5h9V19H3z",
  pause: "M8 5v14M16 5v14",
  down: "M12 5v14M6 13l6 6 6-6",
  link: "M9 6l6 6-6 6",
  upload: "M12 15V4M7.5 8.3 12 3.8l4.5 4.5M4 20h16",
  add: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
};

export function icon(name) {
  return svg("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

// For an icon that follows a state: draws another one in the same element.
export function setIcon(drawn, name) {
  drawn.firstChild.setAttribute("d", PATHS[name]);
}
