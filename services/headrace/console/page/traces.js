// Recent requests, and a waterfall of one over all processes.
import { CLASSES, $, age, chip, el, say, seconds } from "./words.js";
import { now } from "./state.js";
import { Table } from "./table.js";
import { call } from "./operator.js";
import { waterfall } from "./waterfall.js";

const EVERY_MS = 3000;

export function startTraces() {
  let failed = false, visible = false, shown = null;
  const open = (row) => el("button", { type: "button", "data-trace": row.request_id || row.trace_id, "aria-label": `Show the trace of ${row.request_id || row.trace_id}` }, "Show");
  const table = new Table($("traces-table"), {
    caption: "Recent traces",
    sort: "started",
    first: 25,
    empty: "No trace is remembered yet.",
    columns: [
      { name: "started", title: "began", of: (row) => row.started, show: (row) => `${age((now() - row.started) / 1000)} ago` },
      { name: "request", title: "request", show: (row) => row.request_id || row.trace_id, kind: () => "mono" },
      { name: "class", title: "class", of: (row) => -CLASSES.indexOf(row.priority), show: (row) => (row.priority ? chip(CLASSES.indexOf(row.priority)) : "–") },
      { name: "model", title: "model", of: (row) => row.model, show: (row) => row.model || "–" },
      { name: "tenant", title: "tenant", of: (row) => row.tenant, show: (row) => row.tenant || "–" },
      { name: "took", title: "took", num: true, of: (row) => row.took_s, show: (row) => seconds(row.took_s) },
      { name: "outcome", title: "outcome", of: (row) => row.outcome, show: (row) => row.error || row.outcome || "running", kind: (row) => (row.error ? "bad" : "") },
      { name: "cause", title: "why", of: (row) => row.cause, show: (row) => row.cause, kind: () => "wrap" },
      { name: "do", title: "", show: open },
    ],
  });
  async function load() {
    if (!visible || document.hidden) return;
    try {
      const answer = await call(`traces${failed ? "?failed=1" : ""}`);
      table.none.textContent = answer.problem ?? (answer.on ? table.empty : "Gateways keep no traces; traces.recent switches them on.");
      table.draw(answer.traces.map((row) => [row.request_id || row.trace_id, row]));
      // More spans of the one that is open have come; whoever reads a line of it is not disturbed.
      const row = shown && answer.traces.find((one) => [one.request_id, one.trace_id].includes(shown.id));
      if (row && row.spans !== shown.spans && !$("waterfall").querySelector("[aria-expanded=true]")) await fill(shown.id);
    } catch (error) {
      table.none.textContent = error.message;
      table.draw([]);
    }
  }
  async function fill(id) {
    const found = await call(`traces/${encodeURIComponent(id)}`);
    shown = { id, spans: found.summary.spans };
    $("waterfall").replaceChildren(...waterfall(found, show));
  }
  async function show(id) {
    const place = $("waterfall");
    try {
      await fill(id);
      place.hidden = false;
      place.focus({ preventScroll: true });
      place.scrollIntoView({ block: "nearest" });
    } catch (error) {
      say(error.message, true);
    }
  }
  $("traces-table").addEventListener("click", (event) => {
    const id = event.target.closest("[data-trace]")?.dataset.trace;
    if (id) show(id);
  });
  $("trace-find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = $("trace-id").value.trim();
    if (id) show(id);
  });
  $("traces-failed").addEventListener("change", (event) => { failed = event.target.checked; load(); });
  new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; load(); }).observe($("traces"));
  setInterval(load, EVERY_MS);
}
