// Grey images of eight bits as a TIFF file: pages one after the other, named as ImageJ does, so that their axis is known.

const ENTRIES = 9, SHORT = 3, LONG = 4, TEXT = 2;

// pages: Uint8Array (height × width) each; axis: "channels" or "frames".
export function tiff(pages, width, height, axis) {
  const text = `ImageJ=1.54\nimages=${pages.length}\n${axis}=${pages.length}\n\0`;
  const described = new TextEncoder().encode(text);
  const directory = 2 + 12 * ENTRIES + 4, data = 8 + described.length + (described.length % 2);
  const size = width * height, first = data + size * pages.length + (size * pages.length) % 2;
  const file = new DataView(new ArrayBuffer(first + directory * pages.length));
  const bytes = new Uint8Array(file.buffer);
  bytes.set([0x49, 0x49, 42, 0]);
  file.setUint32(4, first, true);
  bytes.set(described, 8);
  pages.forEach((page, n) => {
    const at = first + n * directory, place = data + n * size;
    bytes.set(page, place);
    file.setUint16(at, ENTRIES, true);
    const rows = [[256, LONG, 1, width], [257, LONG, 1, height], [258, SHORT, 1, 8], [259, SHORT, 1, 1], [262, SHORT, 1, 1],
      [270, TEXT, described.length, 8], [273, LONG, 1, place], [278, LONG, 1, height], [279, LONG, 1, size]];
    rows.forEach(([tag, kind, count, value], row) => {
      const entry = at + 2 + 12 * row;
      file.setUint16(entry, tag, true);
      file.setUint16(entry + 2, kind, true);
      file.setUint32(entry + 4, count, true);
      file.setUint32(entry + 8, value, true);
    });
    file.setUint32(at + 2 + 12 * ENTRIES, n + 1 < pages.length ? at + directory : 0, true);
  });
  return file.buffer;
}
