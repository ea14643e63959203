// Workers and their lanes: a card each, with a line for every lane that has a batch.
import { CLASSES, $, age, count, el, many, setText } from "./words.js";
import { mesh, now, onState } from "./state.js";
import { calmly } from "./table.js";

const FIRST = innerWidth < 760 ? 8 : 24; // cards; the picture has all of them

class Card {
  constructor(id) {
    this.name = el("b");
    this.state = el("small");
    this.what = el("p");
    this.lanes = el("ul", { class: "lanes" });
    this.free = el("div", { class: "free" });
    this.node = el("li", { class: "card", id: `worker-${id}`, tabindex: "-1" }, el("h3", {}, this.name, this.state), this.what, this.lanes, this.free);
    this.row = null;
  }

  draw(row) {
    const running = row.batches.filter((batch) => !batch[8]).length;
    const state = row.lost ? `lost ${age((now() - row.lost) / 1000)} ago` : row.draining ? "draining" : `${running} of ${row.slots} running`;
    setText(this.name, row.name);
    setText(this.state, state);
    if (row === this.row) return this.ages(row);
    this.row = row;
    this.node.className = `card${row.lost ? " lost" : ""}${row.draining ? " draining" : ""}`;
    setText(this.what, [row.device, row.models.join(", "), `at ${row.router}`].filter(Boolean).join(" · "));
    while (this.lanes.children.length > row.batches.length) this.lanes.lastChild.remove();
    row.batches.forEach((batch, place) => {
      if (place >= this.lanes.children.length) this.lanes.append(line());
      fill(this.lanes.children[place], batch, row);
    });
    const free = row.lanes - row.batches.length;
    setText(this.free, row.lost || !free ? "" : `${many(free, "free lane")}, ${Math.max(0, row.slots - running)} could run now`);
    return undefined;
  }

  ages(row) {
    row.batches.forEach((batch, place) => setText(this.lanes.children[place].lastChild, ran(batch)));
  }
}

const ran = (batch) => age((now() - (batch[8] || batch[7])) / 1000);

function line() {
  return el("li", { class: "lane" }, el("span"), el("div", { class: "fill", "aria-hidden": "true" }, el("i")), el("span"), el("span"), el("span"));
}

function fill(node, batch, row) {
  const [lane, number, model, priority, entries, context, , , paused] = batch;
  node.className = `lane c${priority}${paused ? " held" : ""}`;
  node.title = `batch ${number} of ${model}, ${CLASSES[priority]}${paused ? ", paused" : ""}`;
  const [name, bar, size, tokens, since] = node.children;
  setText(name, String(lane));
  bar.firstChild.style.width = `${Math.round((100 * entries) / Math.max(1, row.max_batch))}%`;
  setText(size, many(entries, "request"));
  setText(tokens, `${count(context)} tok`);
  setText(since, paused ? `‖ ${ran(batch)}` : ran(batch));
}

export function startWorkers() {
  const cards = new Map();
  let first = FIRST;
  const draw = calmly(() => {
    const wanted = $("workers-find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...mesh.tables.workers].filter(([, row]) => {
      const text = `${row.name} ${row.device} ${row.router} ${row.models.join(" ")} ${row.lost ? "lost" : ""} ${row.draining ? "draining" : ""}`.toLowerCase();
      return wanted.every((word) => text.includes(word));
    });
    rows.sort(([, a], [, b]) => (b.lost > 0) - (a.lost > 0) || a.name.localeCompare(b.name, "en", { numeric: true }));
    const list = $("worker-cards");
    const shown = rows.slice(0, first);
    const keys = new Set(shown.map(([id]) => id));
    for (const [id, card] of cards) if (!keys.has(id)) { card.node.remove(); cards.delete(id); }
    shown.forEach(([id, row], place) => {
      let card = cards.get(id);
      if (!card) cards.set(id, (card = new Card(id)));
      if (list.children[place] !== card.node) list.insertBefore(card.node, list.children[place] ?? null);
      card.draw(row);
    });
    setText($("workers-n"), mesh.tables.workers.size ? count(mesh.tables.workers.size) : "none has joined");
    $("workers-more").hidden = rows.length <= shown.length;
    setText($("workers-more"), `${rows.length - shown.length} more`);
  }, 250);
  $("workers-find").addEventListener("input", draw);
  $("workers-more").addEventListener("click", () => { first = Infinity; draw(); });
  // Somebody pointed at a worker in the picture.
  addEventListener("worker", (event) => {
    first = Infinity;
    $("workers-find").value = "";
    draw();
    setTimeout(() => { const node = $(`worker-${event.detail}`); node?.scrollIntoView({ block: "center" }); node?.focus({ preventScroll: true }); }, 350);
  });
  onState(draw);
}
