// The page, put together: the link to the console, the figures at the top, the theme, and who the operator is.
import { CLASSES, $, age, count, el, many, seconds, setText } from "./words.js";
import { listen, mesh, now, onState } from "./state.js";
import { startOperator } from "./operator.js";
import { startPicture } from "./picture.js";
import { startPlots } from "./plots.js";
import { startQueues } from "./queues.js";
import { startWorkers } from "./workers.js";
import { startModels } from "./models.js";
import { startTraces } from "./traces.js";
import { startDead } from "./dead.js";

function link(live) {
  const broker = mesh.tables.mesh.get("mesh");
  const pill = $("link");
  const away = live && broker && !broker.connected;
  pill.className = `pill ${live && !away ? "live" : "away"}`;
  setText(pill.lastElementChild, !live ? "console away" : away ? "NATS away" : "live");
}

function pair(a, b) { return a == null ? "–" : `${seconds(a)} · ${seconds(b)}`; }

function figures() {
  const point = mesh.points.at(-1);
  const routers = [...mesh.tables.routers.values()];
  const workers = [...mesh.tables.workers.values()];
  const broker = mesh.tables.mesh.get("mesh") ?? { dead: 0 };
  const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);
  const waiting = [...mesh.tables.queues.values()].reduce((total, row) => total + row.held + row.backlog, 0);
  const lost = workers.filter((row) => row.lost).length;
  const here = sum(routers, "workers");
  setText($("n-running"), count(sum(routers, "entries")));
  setText($("n-waiting"), count(waiting));
  setText($("n-tokens"), point ? count(point.tokens) : "–");
  setText($("n-first"), point ? pair(point.first50[4], point.first99[4]) : "–");
  setText($("n-inter"), point ? pair(point.inter50[4], point.inter99[4]) : "–");
  setText($("n-workers"), lost ? `${count(here)}, ${lost} lost` : count(here));
  $("n-workers").className = lost ? "bad" : "";
  setText($("n-lanes"), `${count(sum(routers, "running"))} of ${count(sum(routers, "slots"))}`);
  setText($("n-dead"), count(broker.dead));
  $("n-dead").className = broker.dead ? "warn" : "";
}

// Each router and gateway in a few words.
function processes() {
  const items = [];
  for (const [id, row] of mesh.tables.gateways) {
    items.push(el("li", {}, el("b", {}, id), ` gateway at ${row.address}, ${many(row.requests, "stream")}`,
      row.draining ? el("span", { class: "warn" }, ", draining") : null));
  }
  for (const [id, row] of [...mesh.tables.routers].sort()) {
    const up = row.started ? `, up ${age((now() - row.started) / 1000)}` : "";
    items.push(el("li", {}, el("b", {}, id), ` router at ${row.address}, holds ${count(row.held)}${up}`,
      row.silent ? el("span", { class: "bad" }, `, silent for ${age((now() - row.silent) / 1000)}`) : null,
      row.draining ? el("span", { class: "warn" }, ", draining") : null));
  }
  $("processes").replaceChildren(...items);
}

function words() {
  const queues = [...mesh.tables.queues.values()];
  const depth = [0, 0, 0, 0];
  for (const row of queues) depth[row.class] += row.held + row.backlog;
  const waits = depth.map((n, c) => (n ? `${count(n)} ${CLASSES[c]}` : null)).filter(Boolean).join(", ");
  const workers = [...mesh.tables.workers.values()];
  const paused = workers.reduce((n, row) => n + row.batches.filter((batch) => batch[8]).length, 0);
  const silent = [...mesh.tables.routers.values()].filter((row) => row.silent).length;
  const left = mesh.tables.mesh.get("mesh");
  setText($("mesh-words"), [
    mesh.tables.routers.size ? many(mesh.tables.routers.size, "router") + (silent ? ` (${silent} silent)` : "") : "No router shows itself",
    many(workers.filter((row) => !row.lost).length, "worker"),
    waits ? `waiting: ${waits} in ${many(queues.length, "queue")}` : "nothing waits",
    paused ? `${many(paused, "batch", "batches")} paused` : null,
    left?.workers_left_out ? `${count(left.workers_left_out)} workers and ${count(left.queues_left_out)} queues not shown` : null,
  ].filter(Boolean).join(" · "));
}

function startTheme() {
  const root = document.documentElement;
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("headrace-theme", root.dataset.theme); } catch { /* for this visit only */ }
    dispatchEvent(new Event("themed"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themed")));
}

function startSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const a of links.values()) a.removeAttribute("aria-current");
      links.get(target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of document.querySelectorAll("section")) seen.observe(section);
}

let spoken = 0;
onState((changed) => {
  figures();
  if (changed.has("mesh")) link(mesh.live);
  if (Date.now() - spoken > 1000) { spoken = Date.now(); processes(); words(); }
});

startTheme();
startSections();
startOperator();
for (const start of [startPicture, startPlots, startQueues, startWorkers, startModels, startTraces, startDead]) start();
listen(link);
