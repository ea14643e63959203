// Models: which versions there are, and who serves them.
import { $, count } from "./words.js";
import { mesh, onState } from "./state.js";
import { Table, calmly } from "./table.js";

export function startModels() {
  const table = new Table($("models-table"), {
    caption: "Models",
    sort: "name",
    down: false,
    empty: "No router knows a model.",
    columns: [
      { name: "name", title: "model", of: (row) => row.name, show: (row) => row.name },
      { name: "version", title: "version", of: (row) => row.versions[0], show: (row) => row.versions.map((version) => version.slice(0, 12)).join(", "), kind: (row) => (row.versions.length > 1 ? "mono warn" : "mono") },
      { name: "task", title: "task", of: (row) => row.task, show: (row) => row.task },
      { name: "context", title: "context", num: true, of: (row) => row.context, show: (row) => count(row.context) },
      { name: "workers", title: "workers", num: true, of: (row) => row.workers, show: (row) => count(row.workers), kind: (row) => (row.workers ? "" : "warn") },
      { name: "slots", title: "lanes at once", num: true, of: (row) => row.slots, show: (row) => count(row.slots) },
      { name: "running", title: "running", num: true, of: (row) => row.running, show: (row) => count(row.running) },
      { name: "waiting", title: "waiting", num: true, of: (row) => row.waiting, show: (row) => count(row.waiting) },
    ],
  });
  onState(calmly(() => {
    const running = {}, waiting = {};
    for (const row of mesh.tables.workers.values()) for (const batch of row.batches) running[batch[2]] = (running[batch[2]] ?? 0) + batch[4];
    for (const row of mesh.tables.queues.values()) waiting[row.model] = (waiting[row.model] ?? 0) + row.held + row.backlog;
    table.draw([...mesh.tables.models].map(([name, row]) => [name, { ...row, name, running: running[name] ?? 0, waiting: waiting[name] ?? 0 }]));
  }, 1000));
}
