// A chart of the last minutes, one line a series, with a readout under the
// pointer or by arrow keys, and a table of the same for who can't see it.

import { el, setAttribute, setChildren, setHidden, setText, svg } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";

const SPAN_S = 15 * 60;
const HEIGHT = 210;
const MARGIN = { top: 10, right: 12, bottom: 26, left: 76 };
const DIVISIONS = 4;

// `series`: [{ name, value(sample, step) }], at most two have colours.
// `format`: value to text. `ceiling`: largest value to the top of the axis,
// which four divisions cut into round numbers.
export function timeChart({ id, label, series, format, ceiling }) {
  const grid = svg("g.chart-grid");
  const lines = series.map((_, index) => svg(`path.chart-line.chart-${index + 1}`));
  const areas = series.map((_, index) => svg(`path.chart-area.chart-${index + 1}`));
  const cursor = svg("line.chart-cursor", { y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
  const drawing = svg("svg", { height: HEIGHT, "aria-hidden": "true" }, grid, areas, lines, cursor);
  const readout = el("div.chart-readout", { hidden: true });
  const plot = el(
    "div.chart-plot",
    { id, tabindex: "0", role: "slider", "aria-label": `${label}. ${t("chart.keys")}`, "aria-valuemin": 0 },
    drawing,
    readout,
  );
  const newest = series.map(() => el("strong"));
  const legend = el("ul.chart-legend", series.map(({ name }, index) =>
    el("li", svg("svg.chart-swatch", { viewBox: "0 0 24 8", "aria-hidden": "true" },
      svg(`path.chart-line.chart-${index + 1}`, { d: "M0 4h24" })), `${name} `, newest[index])));
  const rows = el("tbody");
  const columns = [t("chart.time"), ...series.map(({ name }) => name)];
  const table = el("details.chart-table", el("summary", t("chart.table")), el("table",
    el("caption.spoken", label),
    el("thead", el("tr", columns.map((text) => el("th", { scope: "col" }, text)))),
    rows));

  let samples = [];
  let step = 5;
  let chosen = null; // time of the sample that is read out
  let scale = null;

  function draw() {
    // It grows with the type, as all of the page.
    const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const width = Math.max(240, plot.clientWidth / unit);
    const values = series.map(({ value }) => samples.map((sample) => value(sample, step)));
    const end = samples.at(-1)?.[0] ?? Math.floor(Date.now() / 1000);
    const top = ceiling(Math.max(1, ...values.flat()));
    scale = {
      width,
      unit,
      end,
      x: (time) => MARGIN.left + (width - MARGIN.left - MARGIN.right) * (1 - (end - time) / SPAN_S),
      y: (value) => MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * (1 - value / top),
    };
    setAttribute(drawing, "viewBox", `0 0 ${width} ${HEIGHT}`);
    setChildren(grid, [...across(top), ...along(end)]);
    values.forEach((line, index) => {
      const runs = continuous(line);
      setAttribute(lines[index], "d", runs.map(pathOf).join(""));
      setAttribute(areas[index], "d", runs.map(areaOf).join(""));
      setText(newest[index], line.length > 0 ? format(line.at(-1)) : "–");
    });
    read();
    if (table.open) fillTable();
  }

  function across(top) {
    return Array.from({ length: DIVISIONS + 1 }, (_, index) => {
      const value = (top * index) / DIVISIONS;
      const y = scale.y(value);
      return svg("g",
        svg("line", { x1: MARGIN.left, x2: scale.width - MARGIN.right, y1: y, y2: y, class: index === 0 ? "chart-base" : null }),
        svg("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, format(value)));
    });
  }

  function along(end) {
    const every = scale.width < 460 ? 300 : 180;
    const first = Math.ceil((end - SPAN_S) / every) * every;
    const texts = [];
    for (let time = first; time <= end; time += every) {
      const x = scale.x(time);
      const fits = x > MARGIN.left + 16 && x < scale.width - 22;
      if (fits) texts.push(svg("text", { x, y: HEIGHT - 8, "text-anchor": "middle" }, clock(time, false)));
    }
    return texts;
  }

  // Where the server was away there are no samples, and no line is drawn.
  function continuous(line) {
    const runs = [];
    samples.forEach(([time], index) => {
      const broken = index === 0 || time - samples[index - 1][0] > 2.5 * step;
      if (broken) runs.push([]);
      if (time > scale.end - SPAN_S) runs.at(-1).push([scale.x(time), scale.y(line[index])]);
    });
    return runs.filter((run) => run.length > 0);
  }

  const pathOf = (run) => `M${run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

  const areaOf = (run) => {
    const base = scale.y(0).toFixed(1);
    return `${pathOf(run)}L${run.at(-1)[0].toFixed(1)} ${base}L${run[0][0].toFixed(1)} ${base}Z`;
  };

  const shown = () => samples.filter(([time]) => time > scale.end - SPAN_S);

  function read() {
    const visible = shown();
    const sample = visible.find(([time]) => time === chosen) ?? null;
    const spoken = sample ?? visible.at(-1);
    setAttribute(plot, "aria-valuemax", Math.max(1, visible.length - 1));
    setAttribute(plot, "aria-valuenow", Math.max(0, visible.indexOf(spoken)));
    setAttribute(plot, "aria-valuetext", spoken ? words(spoken).join(", ") : t("chart.empty"));
    setHidden(readout, sample === null);
    setAttribute(cursor, "visibility", sample ? "visible" : "hidden");
    if (!sample) return;
    const x = scale.x(sample[0]);
    for (const end of ["x1", "x2"]) setAttribute(cursor, end, x);
    const [time, ...values] = words(sample);
    setChildren(readout, [
      el("strong", time),
      ...values.map((text, index) => el(`span.chart-key.chart-${index + 1}`, text)),
    ]);
    const right = x > scale.width / 2;
    readout.style.setProperty("left", right ? "auto" : `${(x + 10) * scale.unit}px`);
    readout.style.setProperty("right", right ? `${(scale.width - x + 10) * scale.unit}px` : "auto");
  }

  const words = (sample) =>
    [clock(sample[0]), ...series.map(({ name, value }) => `${name} ${format(value(sample, step))}`)];

  function choose(time) {
    chosen = time;
    read();
  }

  plot.onpointermove = (event) => {
    const x = (event.clientX - plot.getBoundingClientRect().left) / scale.unit;
    const away = ([time]) => Math.abs(scale.x(time) - x);
    const [nearest] = [...shown()].sort((one, other) => away(one) - away(other));
    choose(nearest?.[0] ?? null);
  };
  for (const end of ["pointerleave", "blur"]) plot.addEventListener(end, () => choose(null));
  plot.onkeydown = (event) => {
    const visible = shown();
    const at = visible.findIndex(([time]) => time === chosen);
    const last = visible.length - 1;
    const from = at < 0 ? last + 1 : at;
    const moves = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, Home: 0, End: last };
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    choose(visible[Math.min(last, Math.max(0, moves[event.key]))][0]);
  };

  function fillTable() {
    const minutes = new Map();
    for (const sample of shown()) {
      const minute = Math.floor(sample[0] / 60) * 60;
      minutes.set(minute, [...(minutes.get(minute) ?? []), sample]);
    }
    const mean = (group, value) => group.reduce((sum, sample) => sum + value(sample, step), 0) / group.length;
    setChildren(rows, [...minutes].reverse().map(([minute, group]) =>
      el("tr", el("th", { scope: "row" }, clock(minute, false)),
        series.map(({ value }) => el("td", format(mean(group, value)))))));
  }

  table.ontoggle = () => table.open && fillTable();
  new ResizeObserver(() => draw()).observe(plot);

  return {
    node: el("div.chart", legend, plot, table),
    update(newSamples, newStep) {
      samples = newSamples;
      step = newStep;
      draw();
    },
  };
}
