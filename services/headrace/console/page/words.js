// How values are said, and the little that every section needs of the page.
export const CLASSES = ["realtime", "high", "normal", "batch"];

export const $ = (id) => document.getElementById(id);

// An element with attributes, and children that are text or elements. Text is never read as HTML.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function count(n) {
  if (n < 10_000) return Math.round(n).toLocaleString("en");
  return n < 1e6 ? `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k` : `${(n / 1e6).toFixed(1)}M`;
}

export function seconds(s) {
  if (s == null) return "–";
  if (s < 0.0995) return `${(s * 1000).toFixed(s < 0.00995 ? 1 : 0)} ms`;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 99.5) return `${s.toFixed(s < 9.95 ? 2 : 1)} s`;
  return age(s);
}

// 42 s, 5 m, 2 h, 3 d
export function age(s) {
  s = Math.max(0, s);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} m`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function chip(priority) {
  return el("span", { class: `chip c${priority}` }, CLASSES[priority] ?? "–");
}

export function say(text, bad = false) {
  const said = $("said");
  said.className = bad ? "said bad" : "said";
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 6000);
}
