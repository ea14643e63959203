// The mesh as a picture: queues, routers, workers and their lanes, and what flows between them. Whoever points at a
// part is told what it is; the sections below have the same for a keyboard and a screen reader.
import { CLASSES, $, age, count, many } from "./words.js";
import { mesh, now, onState } from "./state.js";
import { arrange } from "./arrange.js";
import { NAMES, painter } from "./paint.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const FRAME_MS = 33;

export function startPicture() {
  const canvas = $("picture"), tip = $("tip"), pen = canvas.getContext("2d");
  const colors = {};
  let plan = null, visible = true, drawn = 0, width = 0;

  const learn = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of NAMES) colors[name] = style.getPropertyValue(`--${name}`).trim();
  };

  const layout = () => {
    width = canvas.parentElement.clientWidth;
    if (width < 100) { plan = null; return; } // not laid out yet
    plan = arrange(mesh.tables, width, now());
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(plan.height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(plan.height * ratio);
      canvas.style.height = `${plan.height}px`;
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  };

  const paint = painter(pen, colors, still);
  const draw = (at) => { if (plan) paint(plan, at, width); };

  const frame = (at) => {
    requestAnimationFrame(frame);
    if (!visible || document.hidden || still.matches || at - drawn < FRAME_MS) return;
    drawn = at;
    draw(at);
  };

  // Whoever points at something is told what it is.
  const under = (event) => {
    const area = canvas.getBoundingClientRect(), x = event.clientX - area.left, y = event.clientY - area.top;
    const inside = (part) => x >= part.x && x <= part.x + part.w && y >= part.y && y <= part.y + part.h;
    const worker = plan?.workers.find(inside);
    return { x, y, worker, lane: worker?.lanes.find(inside), queue: plan?.queues.find(inside), router: plan?.routers.find(inside) };
  };
  const told = ({ worker, lane, queue, router }) => {
    if (worker) {
      const head = `${worker.name} · ${worker.device} · ${worker.words}\n${worker.models.join(", ")}`;
      const batch = lane?.batch;
      if (!batch) return lane ? `${head}\nlane ${lane.number}: free` : head;
      const ran = age((now() - batch[7]) / 1000);
      return `${head}\nlane ${lane.number}: ${many(batch[4], "request")} of ${CLASSES[batch[3]]}, ${batch[2]}\n${count(batch[5])} tokens of context, ${batch[8] ? `paused for ${age((now() - batch[8]) / 1000)}` : `runs for ${ran}`}`;
    }
    if (queue) return `${queue.label}\n${CLASSES[queue.class]}: ${many(queue.depth, "request")} ${queue.depth === 1 ? "waits" : "wait"}${queue.oldest ? `, the oldest for ${age((now() - queue.oldest) / 1000)}` : ""}`;
    return router ? `${router.name} at ${router.address}\n${router.words}` : "";
  };
  canvas.addEventListener("pointermove", (event) => {
    const found = under(event), said = told(found);
    tip.hidden = !said;
    tip.textContent = said;
    tip.style.left = `${Math.min(found.x + 14, Math.max(0, width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.min(found.y + 16, plan.height - tip.offsetHeight - 4)}px`;
    canvas.style.cursor = found.worker ? "pointer" : "";
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const { worker } = under(event);
    if (worker) dispatchEvent(new CustomEvent("worker", { detail: worker.id }));
  });

  learn();
  addEventListener("themed", () => { learn(); draw(performance.now()); });
  new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; }).observe(canvas);
  new ResizeObserver(() => { layout(); draw(performance.now()); }).observe(canvas.parentElement);
  onState(() => {
    if (!visible) return;
    layout();
    if (still.matches) draw(performance.now());
  });
  requestAnimationFrame(frame);
}
