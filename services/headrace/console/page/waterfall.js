// One request's spans, each a line: whose it is, when, for how long, and what happened within.
import { el, seconds } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const HUES = { gateway: "var(--accent)", router: "var(--c2)", worker: "var(--c1)" };

function shape(tag, attributes, title) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (title) made.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: title }));
  return made;
}

// In the order of a tree: children behind their parents, siblings by their start.
function tree(spans) {
  const here = new Set(spans.map((span) => span.id)), children = new Map(), order = [];
  for (const span of spans) {
    const parent = here.has(span.parent) && span.parent !== span.id ? span.parent : "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const walk = (parent, depth) => {
    for (const span of children.get(parent) ?? []) { order.push([span, depth]); walk(span.id, depth + 1); }
  };
  walk("", 0);
  return order;
}

function bar(span, total) {
  const picture = shape("svg", { viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" });
  const at = (ms) => (1000 * ms) / total;
  picture.append(shape("line", { x1: 0, x2: 1000, y1: 9, y2: 9, stroke: "var(--line)", "stroke-width": 1 }));
  picture.append(shape("rect", { x: at(span.at), width: Math.max(2, at(span.took)), y: 3, height: 12, rx: 2, fill: span.failed ? "var(--bad)" : HUES[span.process] ?? "var(--dim)" }));
  for (const event of span.events) {
    picture.append(shape("rect", { x: Math.min(998, at(event.at)), width: 2.5, y: 0, height: 18, fill: "var(--text)" }, `${event.name} at ${seconds(event.at / 1000)}`));
  }
  return picture;
}

const pairs = (attributes) => Object.entries(attributes).map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : value}`).join("  ");

function detail(span) {
  const list = el("dl", { class: "detail", hidden: "" });
  const add = (name, value) => list.append(el("dt", {}, name), el("dd", {}, value));
  add("process", `${span.process || "elsewhere"} ${span.instance}`);
  add("from", `${seconds(span.at / 1000)} after the begin, for ${seconds(span.took / 1000)}`);
  for (const event of span.events) add(seconds(event.at / 1000), `${event.name}  ${pairs(event.attributes)}`);
  for (const [name, value] of Object.entries(span.attributes)) add(name, Array.isArray(value) ? value.join(", ") : String(value));
  const others = span.links.filter((link) => link.request);
  if (others.length) add("together with", others.map((link) => link.request).join(", "));
  return list;
}

// `show(id)` opens another request.
export function waterfall(found, show) {
  const { summary, spans } = found;
  const total = Math.max(1, ...spans.map((span) => span.at + span.took));
  const head = el("h3", {}, summary.request_id || summary.trace_id, " ", el("small", {},
    [summary.priority, summary.model, summary.tenant, summary.error || summary.outcome, seconds(summary.took_s)].filter(Boolean).join(" · ")));
  const causes = el("ul", { class: "causes" }, ...found.causes.map((cause) => el("li", {}, cause)));
  const lines = tree(spans).flatMap(([span, depth]) => {
    const label = el("span", { class: "label" }, span.name, el("small", {}, span.process));
    label.style.paddingLeft = `${Math.min(depth, 10) * 14}px`;
    const more = detail(span);
    const line = el("button", {
      class: "span", type: "button", "aria-expanded": "false",
      "aria-label": `${span.name} in ${span.process || "another process"}, ${seconds(span.took / 1000)} from ${seconds(span.at / 1000)} on${span.failed ? ", failed" : ""}`,
    }, label, bar(span, total), el("span", { class: "took" }, seconds(span.took / 1000)));
    line.addEventListener("click", () => { more.hidden = !more.hidden; line.setAttribute("aria-expanded", String(!more.hidden)); });
    return [line, more];
  });
  const others = found.others.length
    ? el("p", { class: "row" }, "Other requests of this trace: ", ...found.others.map((id) => el("button", { type: "button", onclick: () => show(id) }, id)))
    : null;
  const left = found.left_out ? el("p", { class: "dim" }, `${found.left_out} more spans are not shown.`) : null;
  const hues = el("ul", { class: "legend" }, ...Object.entries(HUES).map(([name, hue]) => {
    const item = el("li", {}, name);
    item.style.setProperty("--mark", hue);
    return item;
  }));
  return [head, causes, hues, el("div", { class: "spans" }, ...lines), others, left].filter(Boolean);
}
