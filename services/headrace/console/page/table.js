// A table that is sorted by its headers, shows the first rows of many, and touches only what has changed.
import { el } from "./words.js";

// `columns`: {name, title, num, of(row) → value to sort by, show(row) → text or node, kind(row) → class}
export class Table {
  constructor(place, { caption, columns, sort, down = true, first = 100, empty }) {
    Object.assign(this, { columns, sort, down, first, empty });
    this.rows = new Map();
    this.body = el("tbody");
    this.more = el("button", { class: "more", type: "button", hidden: "", onclick: () => { this.first *= 4; this.draw(this.last); } });
    this.none = el("p", { class: "empty" }, empty);
    this.heads = columns.map((column) => el("th", { scope: "col", class: column.num ? "num" : "" },
      column.of ? el("button", { type: "button", onclick: () => this.sortBy(column.name) }, column.title) : el("span", {}, column.title)));
    this.table = el("table", {}, el("caption", { class: "sr" }, caption), el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    place.append(this.table, this.more, this.none);
    this.last = [];
    this.mark();
  }

  sortBy(name) {
    this.down = this.sort === name ? !this.down : true;
    this.sort = name;
    this.mark();
    this.draw(this.last);
  }

  mark() {
    this.columns.forEach((column, place) => {
      if (column.name === this.sort) this.heads[place].setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else this.heads[place].removeAttribute("aria-sort");
    });
  }

  // `rows`: [key, row]
  draw(rows) {
    this.last = rows;
    const by = this.columns.find((column) => column.name === this.sort);
    const way = this.down ? -1 : 1;
    const order = rows.map(([key, row]) => [key, row, by.of(row)]);
    order.sort(([ka, , a], [kb, , b]) => (a < b ? -way : a > b ? way : ka < kb ? -1 : 1));
    const shown = order.slice(0, this.first);
    const keys = new Set(shown.map(([key]) => key));
    for (const [key, made] of this.rows) if (!keys.has(key)) { made.tr.remove(); this.rows.delete(key); }
    let before = null;
    for (const [key, row] of shown) {
      const made = this.row(key, row);
      const wanted = before ? before.nextSibling : this.body.firstChild;
      if (made.tr !== wanted) this.body.insertBefore(made.tr, wanted);
      before = made.tr;
    }
    this.table.hidden = rows.length === 0;
    this.none.hidden = rows.length > 0;
    this.more.hidden = order.length <= shown.length;
    this.more.textContent = `${order.length - shown.length} more`;
  }

  row(key, row) {
    let made = this.rows.get(key);
    if (!made) {
      const cells = this.columns.map((column) => el("td", { class: column.num ? "num" : "" }));
      made = { tr: el("tr", {}, ...cells), cells, shown: [] };
      this.rows.set(key, made);
    }
    this.columns.forEach((column, place) => {
      const value = column.show(row);
      const text = value instanceof Node ? value.outerHTML : String(value);
      if (made.shown[place] !== text) {
        made.shown[place] = text;
        made.cells[place].replaceChildren(value);
      }
      if (column.kind) made.cells[place].className = `${column.num ? "num " : ""}${column.kind(row)}`;
    });
    return made;
  }
}

// At most so often, and once more at the end: tables of hundreds of rows need not follow each state.
export function calmly(draw, every = 500) {
  let timer = null, last = 0;
  const run = () => { timer = null; last = performance.now(); draw(); };
  return () => { timer ??= setTimeout(run, Math.max(0, last + every - performance.now())); };
}
