// What is known of cells, points and tracks, plane by plane, as the worker hands it over.

export class Cells {
  constructor(painter) {
    this.painter = painter;
    this.planes = new Map();
    this.asked = new Set();
    this.tracks = new Map();
  }

  // Asks once for what is known of a plane.
  ask(plane, layer) {
    const key = `${plane}/${layer}`;
    if (this.asked.has(key)) return;
    this.asked.add(key);
    this.painter.postMessage({ table: { plane, layer } });
  }

  take({ plane, layer, cells, points, tracks }) {
    this.planes.set(`${plane}/${layer}`, { cells: cells && cellColumns(cells), points: points && pointColumns(points) });
    for (const [id, first, last, parent] of tracks ?? []) this.tracks.set(id, { id, first, last, parent });
  }

  points(plane, layer) {
    return this.planes.get(`${plane}/${layer}`)?.points;
  }

  ids(plane, layer) {
    return this.planes.get(`${plane}/${layer}`)?.cells?.id ?? [];
  }

  // One cell: area in square pixels, box, middle; null where it is not (yet) known.
  get(plane, layer, id) {
    const columns = this.planes.get(`${plane}/${layer}`)?.cells;
    const at = columns ? place(columns.id, id) : -1;
    return at < 0 ? null : Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[at]]));
  }

  // Where each cell of a plane was in the planes before, oldest first, mothers included.
  tails(plane, layer, length) {
    const found = new Map();
    for (const id of this.ids(plane, layer)) {
      const points = [];
      let now = id;
      for (let at = plane; at >= Math.max(0, plane - length); at -= 1) {
        const track = this.tracks.get(now);
        if (track && at < track.first) {
          if (!track.parent) break;
          now = track.parent;
        }
        const cell = this.get(at, layer, now);
        if (cell) points.unshift([cell.x, cell.y]);
      }
      found.set(id, points);
    }
    return found;
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
