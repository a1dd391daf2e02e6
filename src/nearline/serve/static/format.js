// Numbers as people read them. Anything that is not a finite number becomes an en dash.

export const NONE = "–";
const known = (x) => typeof x === "number" && Number.isFinite(x);

// A word joiner keeps number and unit on one line.
const unit = (value, name) => `${value}\u00a0${name}`;

function short(x) {
  const size = Math.abs(x);
  return String(Number(x.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2))).replace("-", "−");
}

export function count(x) {
  if (!known(x)) return NONE;
  for (const [step, name] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(x) >= step * 0.9995) return short(x / step) + name;
  }
  return Number.isInteger(x) ? String(x) : short(x);
}

export const perSecond = (x) => (known(x) ? `${count(x >= 100 ? Math.round(x) : x)}/s` : NONE);

export function milliseconds(x) {
  if (!known(x)) return NONE;
  if (x < 999.5) return unit(x < 1 ? short(x) : x < 9.95 ? x.toFixed(1) : x.toFixed(0), "ms");
  return seconds(x / 1000);
}

export function seconds(x) {
  if (!known(x)) return NONE;
  if (x < 0.9995) return milliseconds(Math.max(x, 0) * 1000);
  if (x < 99.5) return unit(x.toFixed(x < 9.95 ? 1 : 0), "s");
  if (x < 5400) return unit(Math.round(x / 60), "min");
  return x < 129600 ? unit(Math.round(x / 3600), "h") : unit(Math.round(x / 86400), "days");
}

export function bytes(x) {
  if (!known(x)) return NONE;
  for (const [step, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (x >= step) return unit(short(x / step), name);
  return unit(x, "B");
}

export const percent = (x) => (known(x) ? `${short(x * 100)}%` : NONE);
export const fixed = (digits) => (x) => (known(x) ? x.toFixed(digits).replace("-", "−") : NONE);
export const signed = (digits) => (x) => (known(x) ? (x > 0 ? "+" : "") + fixed(digits)(x) : NONE);

const two = (x) => String(x).padStart(2, "0");

export function clock(time, { withSeconds = true } = {}) {
  if (!known(time)) return NONE;
  const t = new Date(time * 1000);
  return `${two(t.getHours())}:${two(t.getMinutes())}${withSeconds ? `:${two(t.getSeconds())}` : ""}`;
}

export function moment(time) {
  if (!known(time)) return NONE;
  const t = new Date(time * 1000);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(time)}`;
}

export const ago = (age) => (known(age) ? (age < 1.5 ? "just now" : `${seconds(Math.round(age))} ago`) : NONE);
