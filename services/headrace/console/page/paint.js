// Draws what arrange.js has placed, on a canvas.
import { age, count } from "./words.js";
import { now } from "./state.js";

export const NAMES = ["bg", "panel", "raised", "line", "text", "dim", "faint", "accent", "bad", "warn", "c0", "c1", "c2", "c3"];

// `colors` are those of NAMES, kept up to date by whoever owns them; `still` says that nothing may move.
export function painter(pen, colors, still) {
  let plan = null;
  const text = (said, x, y, { size = 12, fill = colors.text, align = "left", bold = false, most = 1e9 } = {}) => {
    pen.font = `${bold ? "600 " : ""}${size}px system-ui, sans-serif`;
    pen.fillStyle = fill;
    pen.textAlign = align;
    pen.textBaseline = "middle";
    let cut = said;
    while (cut.length > 2 && pen.measureText(cut).width > most) cut = `${cut.slice(0, -2).trimEnd()}…`.replace("……", "…");
    if (pen.measureText(cut).width <= most) pen.fillText(cut, x, y);
  };
  const box = (x, y, w, h, r) => { pen.beginPath(); pen.roundRect(x, y, w, h, Math.max(0, Math.min(r, w / 2, h / 2))); };
  const bend = (flow, t) => {
    const mid = (flow.x1 + flow.x2) / 2, u = 1 - t;
    return [u * u * u * flow.x1 + 3 * u * u * t * mid + 3 * u * t * t * mid + t * t * t * flow.x2,
      u * u * u * flow.y1 + 3 * u * u * t * flow.y1 + 3 * u * t * t * flow.y2 + t * t * t * flow.y2];
  };

  const flows = (at) => {
    for (const flow of plan.flows) {
      const mid = (flow.x1 + flow.x2) / 2;
      pen.beginPath();
      pen.moveTo(flow.x1, flow.y1);
      pen.bezierCurveTo(mid, flow.y1, mid, flow.y2, flow.x2, flow.y2);
      pen.strokeStyle = flow.color ? colors[flow.color] : colors.faint;
      pen.globalAlpha = flow.active ? 0.34 : 0.16;
      pen.lineWidth = flow.width;
      pen.stroke();
      if (!flow.active || still.matches) continue;
      pen.globalAlpha = 0.95;
      pen.fillStyle = flow.color ? colors[flow.color] : colors.accent;
      for (let n = 0; n < flow.drops; n++) {
        const t = (at / flow.period + n / flow.drops + flow.phase) % 1;
        const [x, y] = bend(flow, t);
        pen.beginPath();
        pen.arc(x, y, flow.drop, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  };

  const queues = () => {
    for (const title of plan.titles) text(title.text, title.x, title.y, { size: 11, fill: colors.dim, align: title.align ?? "left" });
    for (const q of plan.queues) {
      box(q.x, q.y, q.w, q.h, 6);
      pen.fillStyle = colors.raised;
      pen.fill();
      pen.save();
      pen.clip();
      pen.globalAlpha = 0.38;
      pen.fillStyle = colors[`c${q.class}`];
      pen.fillRect(q.x, q.y, q.w * q.share, q.h);
      pen.globalAlpha = 1;
      pen.fillRect(q.x, q.y, 3, q.h);
      pen.restore();
      text(count(q.depth), q.x + q.w - 8, q.y + q.h / 2, { align: "right", bold: true, fill: q.depth ? colors.text : colors.dim });
      text(q.label, q.x + 11, q.y + q.h / 2, { most: q.w - 58, fill: q.depth ? colors.text : colors.dim });
    }
    if (plan.more) text(plan.more.text, plan.more.x, plan.more.y, { size: 12, fill: colors.dim });
  };

  const routers = () => {
    for (const r of plan.routers) {
      box(r.x, r.y, r.w, r.h, 10);
      pen.fillStyle = colors.raised;
      pen.fill();
      pen.lineWidth = 1.5;
      pen.strokeStyle = r.silent ? colors.bad : r.draining ? colors.warn : colors.accent;
      pen.stroke();
      const middle = r.x + r.w / 2;
      text(r.name, middle, r.y + r.h / 2 - (r.h > 34 ? 9 : 0), { align: "center", bold: true, most: r.w - 10 });
      if (r.h > 34) text(r.words, middle, r.y + r.h / 2 + 9, { size: 11, align: "center", fill: r.silent ? colors.bad : colors.dim, most: r.w - 8 });
    }
  };

  const cell = (lane, at) => {
    const { x, y, w, h, batch } = lane;
    if (!batch) {
      if (w < 4) return;
      box(x + 0.5, y + 0.5, w - 1, h - 1, 3);
      pen.strokeStyle = colors.faint;
      pen.globalAlpha = lane.spare ? 0.4 : 0.9;
      pen.lineWidth = 1;
      pen.setLineDash(lane.spare && w > 10 ? [2, 2] : []);
      pen.stroke();
      pen.setLineDash([]);
      pen.globalAlpha = 1;
      return;
    }
    const color = colors[`c${batch[3]}`], full = Math.min(1, batch[4] / Math.max(1, lane.most));
    box(x, y, w, h, 3);
    pen.fillStyle = color;
    pen.globalAlpha = batch[8] ? 0.14 : 0.2;
    pen.fill();
    pen.save();
    pen.clip();
    if (batch[8]) {
      pen.globalAlpha = 0.75;
      pen.strokeStyle = color;
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (let d = -h; d < w; d += 6) { pen.moveTo(x + d, y + h); pen.lineTo(x + d + h, y); }
      pen.stroke();
    } else {
      pen.globalAlpha = 0.92;
      pen.fillRect(x, y + h * (1 - Math.max(0.15, full)), w, h);
      if (!still.matches && w > 7) {
        const sweep = ((at / 1100 + lane.phase) % 1) * (w + 24) - 24;
        const shine = pen.createLinearGradient(x + sweep, 0, x + sweep + 24, 0);
        shine.addColorStop(0, "rgba(255,255,255,0)");
        shine.addColorStop(0.5, "rgba(255,255,255,.26)");
        shine.addColorStop(1, "rgba(255,255,255,0)");
        pen.globalAlpha = 1;
        pen.fillStyle = shine;
        pen.fillRect(x, y, w, h);
      }
    }
    pen.restore();
    pen.globalAlpha = 1;
    if (w > 54 && h > 15) {
      pen.save();
      pen.shadowColor = colors.panel;
      pen.shadowBlur = 3;
      text(`${batch[4]} × ${count(batch[5])}${batch[8] ? " ‖" : ""}`, x + w / 2, y + h / 2 + 0.5, { size: 11, align: "center", bold: true, most: w - 4 });
      pen.restore();
    }
  };

  const workers = (at) => {
    for (const w of plan.workers) {
      box(w.x, w.y, w.w, w.h, 7);
      pen.fillStyle = colors.panel;
      pen.fill();
      pen.lineWidth = w.lost ? 2 : 1;
      pen.strokeStyle = w.lost ? colors.bad : w.draining ? colors.warn : colors.line;
      pen.stroke();
      if (w.titled) {
        text(w.name, w.x + 8, w.y + 11, { size: 11.5, bold: true, most: w.w - 16 - (w.w > 150 ? 70 : 0) });
        if (w.w > 150) text(w.words, w.x + w.w - 8, w.y + 11, { size: 11, align: "right", fill: w.lost ? colors.bad : w.draining ? colors.warn : colors.dim });
      }
      if (w.lost) {
        pen.globalAlpha = 0.16;
        pen.fillStyle = colors.bad;
        pen.fill();
        pen.globalAlpha = 1;
        if (w.titled && w.w > 150) text(`lost ${age((now() - w.lost) / 1000)} ago`, w.x + w.w / 2, w.y + w.h / 2 + 4, { size: 13, align: "center", fill: colors.bad, bold: true });
      }
      for (const lane of w.lanes) cell(lane, at);
    }
  };

  return (wanted, at, width) => {
    plan = wanted;
    pen.clearRect(0, 0, width, plan.height);
    flows(at);
    queues();
    routers();
    workers(at);
    if (!plan.routers.length) text("No router shows itself. Is the mesh up, and on this NATS?", width / 2, plan.height / 2, { align: "center", size: 14, fill: colors.dim, most: width - 20 });
  };
}
