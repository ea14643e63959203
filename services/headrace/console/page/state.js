// The mesh as this page knows it: rows by table, and the points of the plots. Written by `apply` alone.
export const KEPT_POINTS = 600;

export const mesh = {
  tables: { mesh: new Map(), routers: new Map(), workers: new Map(), queues: new Map(), models: new Map(), gateways: new Map() },
  points: [],
  number: 0,
  behind: 0, // what this machine's clock is ahead of the console's, in milliseconds
  live: false,
};

const listeners = [];

// Tells `listener(changed)` of each new state; `changed` has the names of the tables in which something is new.
export function onState(listener) { listeners.push(listener); }

export const now = () => Date.now() - mesh.behind; // as the console has it

export function apply(message) {
  const { state, points } = message;
  const changed = new Set();
  if (state.full) {
    for (const [name, table] of Object.entries(mesh.tables)) { table.clear(); changed.add(name); }
    mesh.points = [];
  }
  for (const [name, rows] of Object.entries(state.rows)) {
    const table = (mesh.tables[name] ??= new Map());
    for (const [key, row] of Object.entries(rows)) table.set(key, row);
    changed.add(name);
  }
  for (const [name, keys] of Object.entries(state.gone)) {
    for (const key of keys) mesh.tables[name]?.delete(key);
    changed.add(name);
  }
  if (points.length) {
    mesh.points.push(...points);
    mesh.points.splice(0, Math.max(0, mesh.points.length - KEPT_POINTS));
    changed.add("points");
  }
  mesh.number = state.number;
  mesh.behind = Date.now() - message.now;
  for (const listener of listeners) listener(changed);
}

// Listens to the console for as long as the page can be seen; `onLink(live)` is told when it does or does not.
export function listen(onLink) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource("api/events");
    source.onmessage = (event) => {
      if (!mesh.live) { mesh.live = true; onLink(true); }
      apply(JSON.parse(event.data));
    };
    source.onerror = () => {
      mesh.live = false;
      onLink(false);
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(open, 3000); }
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; mesh.live = false; }
    open();
  });
  open();
}
