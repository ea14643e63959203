// Queues: depth and age, by model, class and tenant.
import { CLASSES, $, age, chip, count, el, setText } from "./words.js";
import { mesh, now, onState } from "./state.js";
import { Table, calmly } from "./table.js";

const depth = (row) => row.held + row.backlog;
const old = (row) => { const since = row.oldest || row.since; return since ? (now() - since) / 1000 : 0; };
const oldest = (row) => (row.oldest ? age(old(row)) : row.since ? `over ${age(old(row))}` : "–");

export function startQueues() {
  let deepest = 1;
  const bar = (row) => {
    const made = el("span", { class: `c${row.class}` }, count(depth(row)), el("span", { class: "bar" }, el("i")));
    made.querySelector("i").style.width = `${Math.max(3, (100 * depth(row)) / deepest).toFixed(0)}%`;
    return made;
  };
  const table = new Table($("queues-table"), {
    caption: "Queues with what waits in them",
    sort: "depth",
    empty: "Nothing waits.",
    columns: [
      { name: "class", title: "class", of: (row) => -row.class, show: (row) => chip(row.class) },
      { name: "model", title: "model", of: (row) => row.model, show: (row) => row.model },
      { name: "tenant", title: "tenant", of: (row) => row.tenant, show: (row) => row.tenant },
      { name: "depth", title: "waiting", of: depth, show: bar },
      { name: "age", title: "oldest", num: true, of: old, show: oldest },
      { name: "held", title: "at routers", num: true, of: (row) => row.held, show: (row) => count(row.held) },
      { name: "backlog", title: "in NATS", num: true, of: (row) => row.backlog, show: (row) => count(row.backlog) },
    ],
  });
  const draw = calmly(() => {
    const wanted = $("queues-find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...mesh.tables.queues].filter(([, row]) => {
      const text = `${row.model} ${CLASSES[row.class]} ${row.tenant}`.toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    deepest = Math.max(1, ...rows.map(([, row]) => depth(row)));
    setText($("queues-n"), mesh.tables.queues.size ? `${count(mesh.tables.queues.size)} with something in them` : "");
    table.draw(rows);
  });
  $("queues-find").addEventListener("input", draw);
  onState(draw);
}
