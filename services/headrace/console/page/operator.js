// Who acts. The token is kept in this tab, and sent in a header that no other page can make the browser send.
import { $, setText } from "./words.js";

const KEY = "headrace-operator";
let token = "";
const listeners = [];

export const isOperator = () => token !== "";
export function onOperator(listener) { listeners.push(listener); }

// A call of the console's API; throws an Error with the console's own words where it is refused.
export async function call(path, options = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`api/${path}`, { ...options, headers, credentials: "omit" });
  if (answer.status === 204) return null;
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401) become("");
    throw new Error(body.message ?? `the console answered ${answer.status}`);
  }
  return body;
}

function become(next) {
  token = next;
  try { next ? sessionStorage.setItem(KEY, next) : sessionStorage.removeItem(KEY); } catch { /* this load only */ }
  const button = $("operator");
  setText(button, next ? "Operator" : "Read-only");
  button.className = next ? "yes" : "";
  button.setAttribute("aria-label", next ? "Operator: sign out" : "Read-only: sign in as an operator");
  for (const listener of listeners) listener();
}

async function signIn(next) {
  token = next;
  try {
    await call("operator");
    become(next);
    return "";
  } catch (error) {
    become("");
    return error.message;
  }
}

// Asks for the token; whoever needs an operator calls it.
export function askForToken() {
  $("token").value = "";
  $("sign-in-no").textContent = "";
  $("sign-in").showModal();
}

export function startOperator() {
  $("operator").addEventListener("click", () => (isOperator() ? become("") : askForToken()));
  $("sign-in").querySelector("form").addEventListener("submit", async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault();
    const problem = await signIn($("token").value.trim());
    if (problem) $("sign-in-no").textContent = problem;
    else $("sign-in").close();
  });
  // `headrace up` prints a link with its token behind the #, where no server and no log sees it.
  const given = new URLSearchParams(location.hash.slice(1)).get("operator");
  if (given) history.replaceState(null, "", location.pathname);
  let kept = "";
  try { kept = sessionStorage.getItem(KEY) ?? ""; } catch { /* none */ }
  become("");
  if (given || kept) signIn(given || kept);
}
