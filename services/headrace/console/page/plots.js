// First-token and inter-token times, throughput and what waits, over the last minutes.
import { CLASSES, $, count, seconds } from "./words.js";
import { mesh, onState } from "./state.js";

const HEIGHT = 190;
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// `lines`: {label, color, dash, of(point, class)}; `say` gives a value in words.
const PLOTS = [
  { id: "plot-first", say: seconds, log: true, lines: [
    { label: "p50", color: "--accent", of: (p, c) => p.first50[c] },
    { label: "p99", color: "--c1", of: (p, c) => p.first99[c] }] },
  { id: "plot-inter", say: seconds, log: true, lines: [
    { label: "p50", color: "--accent", of: (p, c) => p.inter50[c] },
    { label: "p99", color: "--c1", of: (p, c) => p.inter99[c] }] },
  { id: "plot-tokens", say: count, lines: [{ label: "tokens/s", color: "--accent", fill: true, of: (p) => p.tokens }] },
  { id: "plot-waiting", say: count, lines: CLASSES.map((label, c) => ({ label, color: `--c${c}`, of: (p) => p.waiting[c] })) },
];

function options(plot, width) {
  const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const say = (value) => (value == null ? "–" : plot.say(value));
  return {
    width, height: HEIGHT,
    padding: [10, 14, 0, 0],
    scales: { y: plot.log ? { distr: 3, range: (u, low, high) => [low > 0 ? low / 1.5 : 0.001, high > 0 ? high * 1.5 : 1] } : { range: (u, low, high) => [0, Math.max(high * 1.1, 1)] } },
    axes: [
      { ...axis, space: 70, values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" })) },
      { ...axis, size: 62, values: (u, ticks) => ticks.map((v) => (v == null ? "" : plot.say(v))) },
    ],
    cursor: { points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "mesh" } },
    series: [{ label: "at", value: (u, t) => (t == null ? "–" : new Date(t * 1000).toLocaleTimeString("en-GB")) },
      ...plot.lines.map((line) => ({
        label: line.label, stroke: color(line.color), width: 1.75, points: { show: false }, spanGaps: false,
        fill: line.fill ? `${color(line.color)}22` : undefined, value: (u, v) => say(v),
      }))],
  };
}

export function startPlots() {
  const made = new Map();
  let wanted = 4;
  const data = (plot) => [mesh.points.map((p) => p.t), ...plot.lines.map((line) => mesh.points.map((p) => line.of(p, wanted)))];
  const draw = () => { if (!document.hidden) for (const [plot, chart] of made) fill(plot, chart); };
  const fill = (plot, chart) => {
    chart.setData(data(plot));
    if (!(chart.cursor.left >= 0)) chart.setLegend({ idx: mesh.points.length - 1 }); // nobody points: the latest
  };
  const build = () => {
    for (const plot of PLOTS) {
      const place = $(plot.id);
      made.get(plot)?.destroy();
      made.set(plot, new uPlot(options(plot, place.clientWidth || 400), data(plot), place));
    }
  };
  $("classes").addEventListener("change", (event) => { wanted = Number(event.target.value); draw(); });
  addEventListener("themed", build);
  new ResizeObserver(() => {
    for (const [plot, chart] of made) {
      const width = $(plot.id).clientWidth;
      if (width && width !== chart.width) chart.setSize({ width, height: HEIGHT });
    }
  }).observe($("latency"));
  build();
  onState((changed) => { if (changed.has("points")) draw(); });
}
