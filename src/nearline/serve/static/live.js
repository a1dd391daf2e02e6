// Follows the service: server-sent events, or asking once a second where those do not come through.

const STALLED = 5000; // ms without an event after which a stream counts as broken
const AGAIN = 15000; // ms until a stream that never worked is tried again

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Calls `show(status)` for each answer and `lost(reason)` for each failure, for ever; no reason where nobody answers.
export async function follow(show, lost) {
  let streamFrom = 0;
  for (;;) {
    if (Date.now() >= streamFrom) {
      const seen = await stream(show).catch(() => 0);
      if (seen === 0) streamFrom = Date.now() + AGAIN;
    }
    await poll(show).catch((error) => lost(error.message));
    await sleep(1000);
  }
}

async function poll(show) {
  const answer = await fetch("api/status", { cache: "no-store", signal: AbortSignal.timeout(STALLED) }).catch(() => {
    throw new Error("");
  });
  if (!answer.ok) throw new Error(await reason(answer));
  show(await answer.json());
}

async function stream(show) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), STALLED);
  let seen = 0;
  try {
    const answer = await fetch("api/events", { headers: { Accept: "text/event-stream" }, cache: "no-store", signal: stop.signal });
    if (!answer.ok || !(answer.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) return 0;
    for await (const data of events(answer.body.pipeThrough(new TextDecoderStream()).getReader())) {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), STALLED);
      show(JSON.parse(data));
      seen += 1;
    }
  } catch (error) {
    if (!stop.signal.aborted && !(error instanceof TypeError)) console.error(error); // TypeError: the network
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
  return seen;
}

async function* events(reader) {
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (held + value).replace(/\r\n|\r(?=[^\n])/g, "\n").split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

// What the server says went wrong, in its own words where it has some.
export async function reason(answer) {
  try {
    const { error } = await answer.json();
    if (error?.message) return error.field ? `${error.message} (${error.field})` : String(error.message);
  } catch { /* not JSON: the status line has to do */ }
  return `${answer.status} ${answer.statusText}`.trim();
}
