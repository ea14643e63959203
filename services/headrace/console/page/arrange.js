// Where everything of the picture stands. Pure: rows and a width in, places out.
const PAD = 16, TOP = 34, ROW = 26, GAP = 5;
const LINGER_MS = 8000; // a queue that ran empty stays that long, so that the picture does not flicker
const remembered = new Map();

export function arrange(tables, width, nowMs) {
  const narrow = width < 640;
  const left = { x: PAD, w: Math.round(width * (narrow ? 0.36 : 0.25)) - PAD };
  const middle = { x: Math.round(width * (narrow ? 0.42 : 0.36)), w: narrow ? Math.round(width * 0.15) : 120 };
  const rightX = Math.round(width * (narrow ? 0.62 : 0.54));
  const right = { x: rightX, w: width - PAD - rightX };
  const known = lingering(tables.queues, nowMs);
  const workers = byRouter(tables);
  const rows = Math.min(known.length, narrow ? 9 : 14);
  const height = Math.max(TOP + rows * (ROW + GAP) + 28, TOP + PAD + wantedHeight(workers, right.w), 240);
  const plan = { height, titles: [], queues: [], routers: [], workers: [], flows: [], more: null };
  plan.titles.push({ text: "QUEUES", x: left.x, y: 18 }, { text: "ROUTERS", x: middle.x + middle.w / 2, y: 18, align: "center" }, { text: narrow ? "WORKERS" : "WORKERS AND LANES", x: right.x, y: 18 });
  placeQueues(plan, known, left, rows, narrow);
  placeRouters(plan, tables.routers, middle, height);
  placeWorkers(plan, workers, right, height - TOP - PAD);
  placeFlows(plan);
  return plan;
}

function lingering(queues, nowMs) {
  for (const [key, row] of queues) remembered.set(key, { key, row, at: nowMs, depth: row.held + row.backlog });
  for (const [key, kept] of remembered) {
    if (queues.has(key)) continue;
    if (nowMs - kept.at > LINGER_MS) remembered.delete(key);
    else kept.depth = 0;
  }
  return [...remembered.values()];
}

// The deepest queues, but one of each class that has any; shown by class.
function placeQueues(plan, known, { x, w }, rows, narrow) {
  const deepest = [...known].sort((a, b) => b.depth - a.depth || (a.key < b.key ? -1 : 1));
  const shown = new Set();
  for (let c = 0; c < 4; c++) { const first = deepest.find((kept) => kept.row.class === c); if (first) shown.add(first); }
  for (const kept of deepest) { if (shown.size >= rows) break; shown.add(kept); }
  const most = Math.max(1, ...known.map((kept) => kept.depth));
  const order = [...shown].sort((a, b) => a.row.class - b.row.class || (a.key < b.key ? -1 : 1));
  order.forEach(({ key, row, depth }, place) => plan.queues.push({
    x, y: TOP + place * (ROW + GAP), w, h: ROW, class: row.class, depth, label: narrow ? row.tenant : `${row.tenant} · ${row.model}`, key,
    share: depth ? Math.max(0.02, Math.sqrt(depth / most)) : 0, oldest: depth ? row.oldest : 0, routers: row.routers,
  }));
  const hidden = known.filter((kept) => kept.depth && !shown.has(kept));
  const rest = hidden.reduce((n, kept) => n + kept.depth, 0);
  const y = TOP + order.length * (ROW + GAP) + 10;
  if (hidden.length) plan.more = { x: x + 2, y, text: `and ${rest} in ${hidden.length} more` };
  else if (!order.length) plan.more = { x: x + 2, y, text: "nothing waits" };
}

function placeRouters(plan, routers, { x, w }, height) {
  const all = [...routers].sort(([a], [b]) => (a < b ? -1 : 1));
  const room = (height - TOP - PAD) / Math.max(1, all.length);
  const h = Math.max(16, Math.min(54, room - 6));
  all.forEach(([id, row], place) => plan.routers.push({
    id, x, w, h, y: TOP + place * room + (room - h) / 2, name: id, address: row.address, draining: row.draining, silent: row.silent,
    words: row.silent ? "silent" : row.draining ? `draining, ${row.held}` : `holds ${row.held}`, running: row.running,
  }));
}

function byRouter(tables) {
  const all = [...tables.workers].map(([id, row]) => ({ id, row }));
  return all.sort((a, b) => (a.row.router < b.row.router ? -1 : a.row.router > b.row.router ? 1 : a.row.name.localeCompare(b.row.name, "en", { numeric: true })));
}

// Tiles with a name where there is room for one, else lanes alone.
function sizes(workers, w) {
  const n = workers.length;
  if (n <= 6) return { across: 1, h: 58, titled: true };
  if (n <= 24) return { across: Math.max(1, Math.min(3, Math.floor(w / 170))), h: 50, titled: true };
  if (n <= 80) return { across: Math.max(2, Math.floor(w / 110)), h: 40, titled: w > 300 };
  return w < 300 ? { across: Math.max(3, Math.floor(w / 27)), h: 15 } : { across: Math.floor(w / 62), h: 26 };
}

function wantedHeight(workers, w) {
  const { across, h } = sizes(workers, w);
  return Math.ceil(workers.length / across) * (h + 6);
}

function placeWorkers(plan, workers, area, room) {
  if (!workers.length) return;
  const size = sizes(workers, area.w);
  const down = Math.ceil(workers.length / size.across);
  const h = Math.min(size.h * 1.5, room / down - 6);
  const w = area.w / size.across - (size.h < 20 ? 3 : 6);
  const top = TOP + Math.max(0, (room - down * (h + 6)) / 2);
  workers.forEach(({ id, row }, place) => {
    const tile = {
      id, x: area.x + ((place % size.across) * area.w) / size.across, y: top + Math.floor(place / size.across) * (h + 6), w, h,
      name: row.name, device: row.device, models: row.models, router: row.router, lost: row.lost, draining: row.draining, titled: size.titled && h > 30,
      running: row.batches.filter((batch) => !batch[8]).length, lanes: [],
    };
    tile.words = row.lost ? "" : row.draining ? "draining" : `${tile.running} of ${row.slots}`;
    placeLanes(tile, row);
    plan.workers.push(tile);
  });
}

function placeLanes(tile, row) {
  const inset = tile.titled ? 7 : tile.h < 20 ? 2 : 4, top = tile.titled ? 21 : inset;
  const w = tile.w - 2 * inset, h = tile.h - top - inset;
  let down = 1;
  while (row.lanes / down > 1 && w / Math.ceil(row.lanes / down) < (h / down) * 0.9) down++;
  const across = Math.ceil(row.lanes / down), gap = w / across > 14 ? 3 : w / across > 7 ? 1.5 : 1;
  const batches = new Map(row.batches.map((batch) => [batch[0], batch]));
  for (let n = 0; n < row.lanes && !row.lost; n++) {
    tile.lanes.push({
      number: n, batch: batches.get(n), most: row.max_batch, spare: n >= row.slots, phase: (n * 0.37 + tile.x * 0.013) % 1,
      x: tile.x + inset + ((n % across) * w) / across, y: tile.y + top + (Math.floor(n / across) * h) / down,
      w: Math.max(1.5, w / across - gap), h: Math.max(2, h / down - (down > 1 ? gap : 0)),
    });
  }
}

function placeFlows(plan) {
  const routers = new Map(plan.routers.map((router) => [router.id, router]));
  plan.queues.forEach((queue, place) => {
    for (const router of plan.routers) {
      if (queue.routers && Object.keys(queue.routers).length && !(router.id in queue.routers)) continue;
      plan.flows.push({
        x1: queue.x + queue.w, y1: queue.y + queue.h / 2, x2: router.x, y2: router.y + router.h / 2, color: `c${queue.class}`,
        width: 1 + 3.5 * queue.share, active: queue.depth > 0 && router.running > 0, drops: 2, drop: 2, period: 2600, phase: (place * 0.29) % 1,
      });
    }
  });
  const busiest = plan.workers.length > 40 ? edges(plan) : plan.workers;
  for (const tile of busiest) {
    const router = routers.get(tile.router);
    if (!router || tile.lost) continue;
    const batch = tile.lanes?.find((lane) => lane.batch && !lane.batch[8])?.batch;
    plan.flows.push({
      x1: router.x + router.w, y1: router.y + router.h / 2, x2: tile.x, y2: tile.y + tile.h / 2, color: batch ? `c${batch[3]}` : null,
      width: 1.4, active: tile.running > 0, drops: 2, drop: 1.8, period: 1700, phase: (tile.y * 0.017) % 1,
    });
  }
}

// Of many workers only those at the left edge get a line: the rest stands behind them.
function edges(plan) {
  const first = Math.min(...plan.workers.map((tile) => tile.x));
  return plan.workers.filter((tile) => tile.x === first);
}
