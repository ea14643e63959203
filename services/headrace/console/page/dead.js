// Dead letters: what was given up and why, and the way back into the queue.
import { $, age, chip, count, el, say, setText } from "./words.js";
import { mesh, now, onState } from "./state.js";
import { Table } from "./table.js";
import { askForToken, call, isOperator, onOperator } from "./operator.js";

export function startDead() {
  let letters = [], known = "";
  const replay = async (row) => {
    if (!isOperator()) return askForToken();
    try {
      const done = await call(`dead/${row.number}/replay`, { method: "POST" });
      say(`Letter ${row.number} is asked again as ${done.new_request_id}`);
    } catch (error) {
      say(error.message, true);
    }
    return load();
  };
  const button = (row) => el("button", { type: "button", disabled: row.replayable ? false : "", "data-letter": row.number, "aria-label": `Replay letter ${row.number}` }, "Replay");
  const table = new Table($("dead-table"), {
    caption: "Dead letters",
    sort: "number",
    empty: "No request was given up.",
    columns: [
      { name: "number", title: "letter", num: true, of: (row) => row.number, show: (row) => String(row.number) },
      { name: "at", title: "given up", of: (row) => row.at, show: (row) => `${age((now() - row.at) / 1000)} ago` },
      { name: "class", title: "class", of: (row) => -(row.class ?? 9), show: (row) => (row.class == null ? "–" : chip(row.class)) },
      { name: "model", title: "model", of: (row) => row.model, show: (row) => row.model || "–" },
      { name: "tenant", title: "tenant", of: (row) => row.tenant, show: (row) => row.tenant || "–" },
      { name: "code", title: "error", of: (row) => row.code, show: (row) => row.code, kind: () => "bad mono" },
      { name: "message", title: "why", of: (row) => row.message, show: (row) => row.message, kind: () => "wrap" },
      { name: "attempts", title: "attempts", num: true, of: (row) => row.attempts, show: (row) => String(row.attempts) },
      { name: "request", title: "request", show: (row) => row.request_id || row.subject, kind: () => "mono" },
      { name: "do", title: "", show: button },
    ],
  });
  $("dead-table").addEventListener("click", (event) => {
    const number = event.target.closest("[data-letter]")?.dataset.letter;
    const row = letters.find((one) => String(one.number) === number);
    if (row) replay(row);
  });
  const draw = () => table.draw(letters.map((row) => [String(row.number), row]));
  async function load() {
    try {
      const answer = await call("dead");
      letters = answer.letters;
      table.none.textContent = answer.problem || table.empty;
    } catch (error) {
      letters = [];
      table.none.textContent = error.message;
    }
    draw();
  }
  onOperator(draw);
  onState((changed) => {
    const row = mesh.tables.mesh.get("mesh");
    if (!changed.has("mesh") || !row) return;
    setText($("dead-n"), row.dead > letters.length && letters.length ? `the newest of ${count(row.dead)}` : row.dead ? count(row.dead) : "");
    const latest = `${row.dead}/${row.last_dead}/${row.connected}`;
    if (latest !== known) { known = latest; load(); }
  });
  setInterval(draw, 5000);
}
