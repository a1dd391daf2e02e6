// One status object in, the page out: every second, changing only what is different.

import { IntervalChart, LineChart, fit, html, say } from "./chart.js";
import { NONE, ago, bytes, clock, count, fixed, milliseconds, moment, percent, perSecond, seconds, signed } from "./format.js";
import { follow } from "./live.js";
import { offer, open, prepare } from "./rollback.js";
import { selection } from "./selection.js";
import { Kept, calibrations, losses, span } from "./smooth.js";

const $ = (id) => document.getElementById(id);
const put = (id, text) => say($(id), text);
const SILENT = 4000; // ms without an answer after which the page says so
const MODELS = [["live", "Live"], ["stale", "Stale"], ["fixed", "Fixed"]].map(([key, name]) => ({ key, name }));

const decimals = (step) => Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (String(step).includes("25") ? 1 : 0)));
const ticks = (v, step) => v.toFixed(decimals(step));
const charts = {
  loss: new LineChart($("loss-chart"), { title: "Log loss", lines: MODELS, format: fixed(4), tick: ticks, empty: "Drawn as soon as outcomes arrive" }),
  calibration: new LineChart($("calibration-chart"), { title: "Calibration", lines: MODELS, format: fixed(3), tick: ticks, include: 1, reference: "exact", empty: "Drawn as soon as outcomes arrive" }),
  lag: new LineChart($("lag-chart"), { title: "Lag", lines: [{ key: "lag_s", name: "Lag" }], format: seconds, tick: (v) => (v === 0 ? "0" : seconds(v)), include: 0, area: true, empty: "Drawn as soon as outcomes arrive" }),
  lift: new IntervalChart($("lift-chart")),
};

let heard = null; // when the last answer came, by this machine's clock
let trouble = null; // why the last question failed, in the service's words

function show(status) {
  heard = Date.now();
  trouble = null;
  connection();
  for (const part of [freshness, lift, quality, selection, traffic, joins, guard, versions, busiest, model]) {
    try { part(status); } catch (error) { console.error(error); } // one part that cannot be drawn must not hide the others
  }
  const bare = !(status.model?.learned > 0) && !(status.quality?.series?.length > 0);
  $("empty").hidden = !bare;
}

const lags = new Kept(600);

function freshness({ freshness: f = {}, quality: q = {}, time }) {
  put("fresh-p50", milliseconds(f.p50_ms));
  put("fresh-p99", milliseconds(f.p99_ms));
  put("fresh-lag", seconds(f.lag_s));
  put("fresh-waiting", count(f.waiting));
  lags.add({ time, lag_s: f.lag_s });
  const sent = (q.series ?? []).some((p) => Number.isFinite(p.lag_s));
  charts.lag.update(sent ? q.series : lags.points);
}

const VERDICTS = {
  good: "The whole interval is above zero: learning makes predictions better.",
  bad: "The whole interval is below zero: the live model does worse than the stale one.",
  open: "The interval includes zero: more events will tell.",
  idle: "Known once outcomes have been joined and learned.",
};

function lift({ quality: q = {} }) {
  const l = q.lift_over_stale ?? {};
  const known = [l.mean, l.low, l.high].every(Number.isFinite) && l.n > 0;
  const tone = !known ? "idle" : l.low > 0 ? "good" : l.high < 0 ? "bad" : "open";
  put("lift-mean", known ? signed(4)(l.mean) : NONE);
  put("lift-interval", known ? `${signed(4)(l.low)} to ${signed(4)(l.high)}` : NONE);
  put("lift-n", count(l.n));
  const r = q.lift_recent ?? {};
  put("lift-recent", signed(4)(r.mean));
  $("lift-recent").parentNode.hidden = !(r.n > 0);
  const share = known && q.stale?.log_loss > 0 ? ` That is ${percent(Math.abs(l.mean) / q.stale.log_loss)} of the stale model's loss.` : "";
  put("lift-verdict", VERDICTS[tone] + (tone === "good" ? share : ""));
  $("lift-verdict").dataset.tone = $("lift-mean").dataset.tone = tone;
  charts.lift.update(known ? l : null, tone, signed(3));
}

function quality({ quality: q = {}, versions: v = {} }) {
  const marks = (v.history ?? []).filter(({ action }) => /publish|roll/i.test(action ?? "")).map(mark);
  const series = q.series ?? [], keys = MODELS.map(({ key }) => key);
  charts.loss.update(losses(series, keys), marks);
  charts.calibration.update(calibrations(series, keys), marks);
  put("averaged", span(series) === null ? "" : `Curves are means over the last ${seconds(span(series))}.`);
  for (const { key } of MODELS) {
    for (const [name, format] of [["log_loss", fixed(4)], ["auc", fixed(4)], ["calibration", fixed(3)]]) put(`${key}-${name}`, format(q[key]?.[name]));
  }
  put("quality-window", q.window > 0 ? `Last ${count(q.window)} events` : "Recent events");
  const flips = q.negative_flips;
  put("flips", Number.isInteger(flips) && flips > 1 ? count(flips) : percent(flips));
}

const mark = (h) => ({ time: h.time, text: `${clock(h.time)} ${words(h.action)} ${h.version}`, tone: /roll/i.test(h.action) ? "warn" : "calm" });
const words = (action) => String(action ?? "").replaceAll("_", " ");

function traffic({ traffic: t = {} }) {
  put("traffic-predict", perSecond(t.predict_rps));
  put("traffic-rows", perSecond(t.rows_per_s));
  put("traffic-outcomes", perSecond(t.outcomes_per_s));
  put("traffic-p50", milliseconds(t.p50_ms));
  put("traffic-p99", milliseconds(t.p99_ms));
  put("traffic-errors", count(t.errors));
  $("traffic-errors").dataset.tone = t.errors > 0 ? "bad" : "";
}

const JOINS = [
  ["pending", "Pending", "Predictions whose attribution window is still open", "part"],
  ["learned", "Learned", "Predictions joined with an outcome and learned from", "part"],
  ["negative", "No outcome", "The window ended without an outcome; learned as a negative", "part"],
  ["expired", "Expired", "The window ended without an outcome; discarded by policy", "part"],
  ["late", "Late", "Outcomes that came after the window's end", ""],
  ["corrected", "Corrected", "Labels that changed: the old one was unlearned, the new one learned", ""],
  ["retracted", "Retracted", "Labels taken back and unlearned", ""],
  ["repeated", "Repeated", "The same outcome again: nothing to do", ""],
  ["failed", "Failed", "Updates that came out not finite: nothing was learned from them", "fault"],
  ["refused", "Refused", "Outcomes for predictions that are not known", "alarm"],
  ["quarantined", "Quarantined", "Rows set aside because they cannot be learned from", "alarm"],
].map(([key, name, means, kind]) => ({ key, name, means, kind }));

function joins({ joins: j = {} }) {
  const shown = JOINS.filter(({ key, kind }) => kind !== "fault" || j[key] > 0);
  fit($("joins"), shown, (parent) => {
    const row = html("div", parent), term = html("dt", row);
    html("i", term);
    html("span", term);
    html("dd", row);
  }, (row, { key, name, means, kind }) => {
    const [swatch, label] = row.firstChild.children;
    swatch.className = kind === "part" ? `swatch ${key}` : "swatch";
    row.title = means;
    row.dataset.tone = ["alarm", "fault"].includes(kind) && j[key] > 0 ? "bad" : "";
    say(label, name);
    say(row.lastChild, count(j[key]));
    row.lastChild.id = `join-${key}`;
  });
  fit($("joins-bar"), JOINS.filter(({ kind }) => kind === "part"), (bar) => html("i", bar), (piece, { key }) => {
    piece.className = key;
    piece.style.flexGrow = String(Math.max(0, j[key] ?? 0));
  });
}

const GUARD = { watching: ["Guard watching", "good"], rolled_back: ["Guard rolled back", "warn"], off: ["Guard off", "idle"] };

function guard({ guard: g = {}, error }) {
  const [text, tone] = GUARD[g.state] ?? [`Guard ${words(g.state) || NONE}`, "idle"];
  put("guard-text", g.changes ? `${text} · ${g.changes} ${g.changes === 1 ? "change" : "changes"} of the world` : text);
  $("guard").dataset.tone = tone;
  const reason = g.reason || "Watches whether the live model does worse than the stale one, and rolls back if so";
  $("guard").title = g.change ? `${reason}\nLast change: ${g.change}` : reason;
  put("guard-notice", g.state === "rolled_back" ? `The guard rolled back${g.reason ? `: ${g.reason}` : "."}` : "");
  $("guard-notice").hidden = g.state !== "rolled_back";
  put("stopped", error ? `Learning has stopped: ${error}` : "");
  $("stopped").hidden = !error;
}

let versionsSeen = "";

function versions({ versions: v = {}, model: m = {}, time }) {
  put("version", m.version ?? v.live ?? NONE);
  const history = v.history ?? [];
  $("history-empty").hidden = history.length > 0;
  const seen = JSON.stringify([v.live, m.base, history]);
  if (seen !== versionsSeen) fit($("history"), history, versionRow, (row, item) => fillVersion(row, item, v.live, m.base));
  versionsSeen = seen;
  [...$("history").children].forEach((row, k) => say(row.querySelector("time"), ago(time - history[k].time)));
  offer([...new Set(history.map(({ version }) => String(version)))].filter((version) => version !== v.live));
}

function versionRow(parent) {
  const row = html("li", parent);
  const top = html("p", row, "what");
  html("code", top);
  html("span", top, "action");
  html("span", top, "pill");
  html("time", top);
  html("p", row, "why");
  const button = html("button", row, "button quiet", "Roll back to this");
  button.type = "button";
  button.addEventListener("click", () => open(row.dataset.version));
}

// The live version itself is rarely in the history: it has learned on from its base, which is.
function fillVersion(row, { time, action, version, who, why }, live, base) {
  const [top, reasonLine, button] = row.children;
  const [code, verb, pill, when] = top.children;
  row.dataset.version = version;
  say(code, String(version));
  say(verb, words(action) + (who ? ` by ${who}` : ""));
  say(pill, version === live ? "Live" : "Base of the live one");
  const first = [...row.parentNode.children].findIndex((other) => other.dataset.version === String(version)) === [...row.parentNode.children].indexOf(row);
  pill.hidden = !first || (version !== live && version !== base);
  button.hidden = version === live || !first;
  button.setAttribute("aria-label", `Roll back to ${version}`);
  when.title = moment(time);
  if (Number.isFinite(time)) when.dateTime = new Date(time * 1000).toISOString();
  say(reasonLine, why ?? "");
  reasonLine.hidden = !why;
}

function busiest({ busiest: b = [] }) {
  const most = Math.max(1, ...b.map(({ events }) => events || 0));
  $("busiest-empty").hidden = b.length > 0;
  fit($("busiest"), b, (parent) => {
    const row = html("li", parent), who = html("p", row, "who");
    html("span", who, "effect");
    html("b", who);
    html("span", who, "events");
    html("i", html("p", row, "meter"));
    html("ul", row, "changes");
  }, (row, { effect, entity, events, changes }) => {
    const [who, meter, list] = row.children;
    say(who.children[0], String(effect));
    say(who.children[1], String(entity));
    say(who.children[2], `${count(events)} events`);
    meter.firstChild.style.width = `${(100 * (events || 0)) / most}%`;
    fit(list, changes ?? [], changeItem, fillChange);
  });
}

function changeItem(parent) {
  const item = html("li", parent);
  html("span", item, "feature");
  html("span", item, "before");
  html("b", item);
}

function fillChange(item, { feature, before, after }) {
  const [name, from, to] = item.children;
  say(name, String(feature));
  say(from, `${signed(2)(before)} →`);
  say(to, signed(2)(after));
  item.dataset.tone = after > before ? "up" : after < before ? "down" : "";
}

function model({ model: m = {}, started, time }) {
  const named = (sizes) => Object.entries(sizes ?? {}).map(([name, n]) => `${count(n)} ${name}`).join(", ") || NONE;
  const dims = (sizes) => Object.entries(sizes ?? {}).map(([name, n]) => `${name} ${count(n)}`).join(", ") || NONE;
  const facts = [
    ["Base version", m.base ?? NONE], ["Events learned", count(m.learned)], ["Link", m.link ?? NONE],
    ["Entities", named(m.entities)], ["Coefficients each", dims(m.dims)], ["Memory", bytes(m.bytes)],
    ["Up for", seconds(time - started)],
  ];
  fit($("model"), facts, (parent) => { const row = html("div", parent); html("dt", row); html("dd", row); }, (row, [name, value]) => {
    say(row.firstChild, name);
    say(row.lastChild, String(value));
  });
}

// How fresh this page itself is, said in the corner and, when the service falls silent, across the page.
function connection() {
  const age = heard === null ? null : Date.now() - heard;
  const silent = heard === null ? trouble !== null : age > SILENT;
  document.body.dataset.state = silent ? "lost" : heard === null ? "waiting" : "live";
  put("connection-text", silent ? "No answer" : heard === null ? "Connecting" : "Live");
  const since = heard === null ? "No answer yet" : `No answer since ${clock(heard / 1000)}`;
  const now = heard === null ? "" : " Showing the last known numbers.";
  put("alert", silent ? `${since}${trouble ? `: ${trouble}.` : "."}${now} Trying again every second.` : "");
  $("alert").hidden = !silent;
  document.title = silent ? "No answer · nearline" : "nearline";
}

function announce(text) {
  put("done", text);
  $("done").hidden = false;
  setTimeout(() => { $("done").hidden = true; }, 8000);
}

const post = (path, body) => `curl --json '${body}' ${new URL(path, location.href).href}`;
put("example-predict", post("predict", '{"rows":[{"user_id":"u1", …}]}'));
put("example-outcome", post("outcome", '{"prediction_id":"…","label":1}'));
prepare(announce);
setInterval(connection, 500);
follow(show, (why) => { trouble = why; connection(); });
