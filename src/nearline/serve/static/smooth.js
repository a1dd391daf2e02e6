// What the charts draw: a second's mean loss is mostly noise, so each point is the mean of the last few.

const MEANS = 7;

const arithmetic = { to: (x) => x, from: (x) => x };
// Σ prediction / Σ outcome over several points: outcomes vary, predictions hardly do, so their ratios are averaged
// upside down. A point without any outcome has no ratio (null), which upside down is 0.
const upsideDown = { to: (x) => (Number.isFinite(x) ? 1 / x : 0), from: (x) => 1 / x };

export const losses = (series, keys) => means(series, keys, arithmetic);
export const calibrations = (series, keys) => means(series.filter((p) => Number.isFinite(p.live)).map(ratios), keys, upsideDown);

// `calibration` is the live model's; the other two are drawn where the service sends them.
function ratios({ time, weight, calibration, calibration_stale, calibration_fixed }) {
  return { time, weight, live: calibration, stale: calibration_stale, fixed: calibration_fixed };
}

function means(points, keys, { to, from }) {
  return points.map(({ time }, k) => {
    const last = points.slice(Math.max(0, k + 1 - MEANS), k + 1);
    return Object.fromEntries([["time", time], ...keys.map((key) => [key, mean(last, key, to, from)])]);
  });
}

function mean(points, key, to, from) {
  const held = points.filter((p) => p[key] !== undefined && Number.isFinite(to(p[key])));
  const weight = held.reduce((sum, p) => sum + (p.weight ?? 1), 0);
  const value = from(held.reduce((sum, p) => sum + (p.weight ?? 1) * to(p[key]), 0) / weight);
  return Number.isFinite(value) ? value : null;
}

// Seconds that one drawn point speaks for; null while there are too few.
export function span(series) {
  return series.length > MEANS ? ((series.at(-1).time - series[0].time) / (series.length - 1)) * MEANS : null;
}

// Points {time, ...} that the page has seen itself, for what the service keeps no series of.
export class Kept {
  constructor(most) {
    this.most = most;
    this.points = [];
  }

  add(point) {
    if (!(point.time > (this.points.at(-1)?.time ?? -Infinity))) return;
    this.points.push(point);
    if (this.points.length > this.most) this.points.shift();
  }
}
