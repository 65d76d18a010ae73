// What is known of cells, points and tracks, plane by plane, read when it is first asked for.

const KEPT = 400;

export class Cells {
  constructor(file, { read, failed }) {
    Object.assign(this, { file, read, failed });
    this.planes = new Map();
    this.tracks = new Map();
  }

  // Sees to it that a plane is known, soon.
  ask(plane, layer) {
    const key = `${plane}/${layer}`;
    if (this.planes.has(key)) return;
    this.planes.set(key, {});
    if (this.planes.size > KEPT) this.planes.delete(this.planes.keys().next().value);
    this.load(plane, layer).then((known) => { this.planes.set(key, known); this.read(plane); }, (error) => {
      this.planes.delete(key);
      this.failed(error);
    });
  }

  async load(plane, layer) {
    const { labels, points, tracks } = this.file.manifest;
    const [cells, spots] = await Promise.all([labels[`${plane}/${layer}`]?.cells, points[plane]?.part].map((part) => part && this.file.part(part)));
    if (tracks) await (this.lineage ??= this.lineages(tracks));
    return { cells: cells && cellColumns(cells), points: spots && pointColumns(spots) };
  }

  async lineages(part) {
    for (const [id, first, last, parent] of JSON.parse(new TextDecoder().decode(await this.file.part(part)))) {
      this.tracks.set(id, { first, last, parent });
    }
  }

  points(plane, layer) {
    return this.planes.get(`${plane}/${layer}`)?.points;
  }

  columns(plane, layer) {
    return this.planes.get(`${plane}/${layer}`)?.cells;
  }

  ids(plane, layer) {
    return this.columns(plane, layer)?.id ?? [];
  }

  // One cell: area in square pixels, box, middle; null where it is not (yet) known.
  get(plane, layer, id) {
    const columns = this.columns(plane, layer);
    const at = columns ? place(columns.id, id) : -1;
    return at < 0 ? null : Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[at]]));
  }

  // Where each cell of a plane was in the planes before, newest first, mothers included: [id, [x, y, x, y, …]].
  tails(plane, layer, length) {
    return [...this.ids(plane, layer)].map((id) => [id, this.tail(id, plane, layer, length)]);
  }

  tail(id, plane, layer, length) {
    const points = [];
    let now = id;
    for (let at = plane; at >= Math.max(0, plane - length); at -= 1) {
      const track = this.tracks.get(now);
      if (track && at < track.first) {
        if (!track.parent) break;
        now = track.parent;
      }
      const columns = this.columns(at, layer);
      const found = columns ? place(columns.id, now) : -1;
      if (found >= 0) points.push(columns.x[found], columns.y[found]);
    }
    return points;
  }
}

function cellColumns(bytes) {
  const count = bytes.length / 32;
  const whole = (n) => new Uint32Array(bytes.buffer, 4 * n * count, count), real = (n) => new Float32Array(bytes.buffer, 4 * n * count, count);
  return { id: whole(0), area: whole(1), left: whole(2), top: whole(3), right: whole(4), bottom: whole(5), x: real(6), y: real(7) };
}

function pointColumns(bytes) {
  const count = bytes.length / 12;
  return { x: new Float32Array(bytes.buffer, 0, count), y: new Float32Array(bytes.buffer, 4 * count, count), cell: new Uint32Array(bytes.buffer, 8 * count, count) };
}

function place(ids, id) {
  let low = 0, high = ids.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (ids[middle] === id) return middle;
    if (ids[middle] < id) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
