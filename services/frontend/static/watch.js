// One event stream for all open jobs; begun anew when the set of them changes, and by the browser when it breaks.

const MOST = 120;

export class Watcher {
  constructor(changed) {
    this.changed = changed;
    this.open = new Map();
    this.streams = [];
  }

  add(id) {
    if (this.open.has(id)) return;
    this.open.set(id, true);
    this.soon();
  }

  remove(id) {
    this.open.delete(id);
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.begin(), 60);
  }

  begin() {
    for (const stream of this.streams) stream.close();
    const ids = [...this.open.keys()];
    this.streams = [];
    for (let start = 0; start < ids.length; start += MOST) this.streams.push(this.stream(ids.slice(start, start + MOST)));
  }

  stream(ids) {
    const source = new EventSource(`/api/v1/events?ids=${ids.join(",")}`);
    source.addEventListener("job", (event) => this.changed(JSON.parse(event.data)));
    source.addEventListener("gone", (event) => this.changed({ ...JSON.parse(event.data), status: "gone" }));
    source.addEventListener("end", () => source.close());
    return source;
  }
}
