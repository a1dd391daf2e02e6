// The dialog that rolls back: which version, why, and the admin token, which never leaves this tab but in the request.

import { say } from "./chart.js";
import { reason } from "./live.js";

const KEY = "nearline.admin";
const $ = (id) => document.getElementById(id);

let targets = [];

export function offer(versions) {
  targets = versions;
}

export function open(to = "") {
  const before = new Option("The one before the live one", "");
  $("to").replaceChildren(before, ...targets.map((version) => new Option(version, version)));
  $("to").value = to;
  $("token").value = sessionStorage.getItem(KEY) ?? "";
  $("why").value = "";
  complain("");
  $("dialog").showModal();
  $("why").focus();
}

export function prepare(done) {
  $("roll-back").addEventListener("click", () => open());
  $("cancel").addEventListener("click", () => $("dialog").close());
  $("dialog-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(done);
  });
}

async function submit(done) {
  const to = $("to").value, why = $("why").value.trim(), token = $("token").value.trim();
  if (!why) return complain("Say why: the reason goes into the history.", "why");
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
  $("confirm").disabled = true;
  try {
    const { problem, field, version } = await post(to ? { to, why } : { why }, token);
    if (problem) return complain(problem, field);
    $("dialog").close();
    done(`Rolled back: version ${version} is live.`);
  } finally {
    $("confirm").disabled = false;
  }
}

async function post(order, token) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const request = { method: "POST", headers, body: JSON.stringify(order), signal: AbortSignal.timeout(15000) };
  const answer = await fetch("versions/rollback", request).catch(() => null);
  if (!answer) return { problem: "The service did not answer. Look at the history below before trying again." };
  if (answer.ok) return answer.json();
  const refused = answer.status === 401 || answer.status === 403;
  if (refused) sessionStorage.removeItem(KEY);
  return { problem: await reason(answer), field: refused ? "token" : undefined };
}

function complain(text, field) {
  say($("dialog-error"), text);
  $("dialog-error").hidden = !text;
  for (const name of ["why", "token"]) $(name).toggleAttribute("aria-invalid", name === field);
  if (field) $(field).focus();
}
