// The event streams of all open jobs: few of them, since a browser opens only six connections to one server, and the
// uploads need theirs. Begun anew when the set of jobs changes, and by the browser when one breaks.

const MOST = 120, STREAMS = 2;
const AT_ONCE_MS = 60, PAUSE_MS = 2000, AFTER_TROUBLE_MS = 10_000;

export class Watcher {
  constructor(changed) {
    this.changed = changed;
    this.open = new Map();
    this.streams = [];
    this.begun = 0;
  }

  // Watches a job, perhaps of a batch; `last`: it is older than the others.
  add(id, batch, last) {
    if (this.open.has(id)) return;
    const entry = [id, batch ?? ""];
    this.open = new Map(last ? [...this.open, entry] : [entry, ...this.open]);
    this.soon(Math.max(AT_ONCE_MS, this.begun + PAUSE_MS - Date.now()));
  }

  remove(id) {
    this.open.delete(id);
  }

  soon(wait) {
    this.timer ??= setTimeout(() => { this.timer = undefined; this.begin(); }, wait);
  }

  begin() {
    for (const stream of this.streams) stream.close();
    const addresses = this.addresses();
    this.begun = Date.now();
    this.more = addresses.length > STREAMS;
    this.streams = addresses.slice(0, STREAMS).map((address) => this.stream(address));
  }

  // Few jobs by their ids; of many, whole batches: the newest first, the others when those have ended.
  addresses() {
    const ids = [...this.open.keys()], few = ids.length <= MOST;
    const batches = few ? [] : [...new Set(ids.map((id) => this.open.get(id)).filter(Boolean))];
    const singles = few ? ids : ids.filter((id) => !this.open.get(id));
    const parts = Array.from({ length: Math.ceil(singles.length / MOST) }, (_, n) => singles.slice(n * MOST, (n + 1) * MOST));
    return [...parts.map((part) => `/api/v1/events?ids=${part.join(",")}`), ...batches.map((batch) => `/api/v1/batches/${batch}/events`)];
  }

  stream(address) {
    const source = new EventSource(address);
    source.addEventListener("job", (event) => this.changed(JSON.parse(event.data)));
    source.addEventListener("gone", (event) => this.changed({ ...JSON.parse(event.data), status: "gone" }));
    source.addEventListener("end", () => {
      source.close();
      if (this.more) this.soon(AT_ONCE_MS);
    });
    // A cut connection mends itself; an answer that is no stream, such as a proxy's, does not.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED && this.streams.includes(source) && this.open.size) this.soon(AFTER_TROUBLE_MS);
    });
    return source;
  }
}
