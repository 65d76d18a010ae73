// Reads the file of tiles by byte ranges: the manifest at its end first, then only what is looked at.
// The format is described in services/consumer/writing/view.py.

const TAIL = 16_384;
const END = 16;
const KEPT = 96;
const TRIES = 4;

export class TileFile {
  static async open(url) {
    const file = new TileFile(url);
    const tail = await file.bytes(`bytes=-${TAIL}`);
    const size = Number(new DataView(tail.buffer, tail.byteOffset + tail.length - END, 8).getBigUint64(0, true));
    const packed = size + END <= tail.length ? tail : await file.bytes(`bytes=-${size + END}`);
    const text = await inflate(packed.subarray(packed.length - END - size, packed.length - END));
    file.manifest = JSON.parse(new TextDecoder().decode(text));
    return file;
  }

  constructor(url) {
    this.url = url;
    this.kept = new Map();
  }

  // A part, unpacked.
  async part([start, size]) {
    return inflate(await this.bytes(`bytes=${start}-${start + size - 1}`, start, size));
  }

  // One tile of a level: its pixels, as many a row as `width` says. The last ones looked at are kept.
  tile(levels, level, column, row, type) {
    const { width, height, tiles } = levels[level];
    const side = this.manifest.tile;
    const at = 2 * (row * Math.ceil(width / side) + column);
    const start = tiles[at];
    let found = this.kept.get(start);
    if (!found) {
      const size = { width: Math.min(side, width - column * side), height: Math.min(side, height - row * side) };
      found = this.part([start, tiles[at + 1]]).then((bytes) => ({ ...size, pixels: summed(bytes, type, size.width) }));
      found.catch(() => this.kept.delete(start));
    }
    this.kept.delete(start);
    this.kept.set(start, found);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return found;
  }

  async bytes(range, start = 0, size = undefined) {
    for (let tries = 1; ; tries += 1) {
      try {
        if (this.whole) break;
        const answer = await fetch(this.url, { headers: { Range: range } });
        if (answer.status === 206) return new Uint8Array(await answer.arrayBuffer());
        if (!answer.ok) throw Object.assign(new Error(`The service answered ${answer.status}.`), { final: answer.status < 500 });
        this.whole = new Uint8Array(await answer.arrayBuffer());  // something between ignores ranges
      } catch (error) {
        if (error.final || tries >= TRIES) throw error;
        await new Promise((done) => setTimeout(done, 500 * tries));
      }
    }
    return size === undefined ? this.whole : this.whole.subarray(start, start + size);
  }
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Rows come as differences from the row above; sums wrap around as the type does.
function summed(bytes, type, width) {
  const pixels = type === "u4" ? new Uint32Array(bytes.buffer) : type === "u2" ? new Uint16Array(bytes.buffer) : bytes;
  for (let i = width; i < pixels.length; i += 1) pixels[i] += pixels[i - width];
  return pixels;
}
