// The card of a network's training: a row per rule, the one that is served first.

import { fit, html, say } from "./chart.js";
import { NONE, count, fixed, percent } from "./format.js";

const $ = (id) => document.getElementById(id);
const CELLS = 9;

export function selection({ selection: s }) {
  const rules = s?.rules ?? [];
  $("selection").hidden = rules.length === 0;
  say($("selection-version"), s?.version ?? NONE);
  fit($("selection-rules"), rules, (parent) => {
    const row = html("tr", parent), name = html("th", row);
    name.scope = "row";
    html("i", name, "key").setAttribute("aria-hidden", "true");
    html("span", name);
    for (let k = 0; k < CELLS; k += 1) html("td", row);
  }, (row, rule) => {
    const [name, ...cells] = row.children;
    name.firstChild.className = rule.role === "trained" ? "key live" : "key stale";
    say(name.lastChild, `${rule.setting ?? rule.rule}${rule.role === "trained" ? "" : " (for comparison)"}`);
    const share = rule.total_seen > 0 ? rule.total_chosen / rule.total_seen : null;
    const told = [
      count(rule.total_seen), `${count(rule.total_chosen)} (${percent(share)})`, count(Math.round(rule.effective)),
      fixed(2)(rule.largest_weight), fixed(2)(rule.uniform_share), fixed(2)(rule.kappa), fixed(4)(rule.log_loss),
      fixed(3)(rule.calibration), count(rule.examples),
    ];
    told.forEach((text, k) => say(cells[k], text));
  });
}
