// Sample images, drawn here: bright round nuclei on a dark, noisy ground, as a fluorescence microscope shows them.

import { tiff } from "./tiff.js";

const SIDE = 512, FRAMES = 12;

// What can be tried, and with which analysis.
export const SAMPLES = [
  { key: "sparse", title: "Sparse nuclei", type: "segmentation", count: 45, radius: [16, 26] },
  { key: "dense", title: "Dense nuclei", type: "segmentation", count: 240, radius: [10, 17] },
  { key: "uneven", title: "Uneven light", type: "segmentation", count: 90, radius: [13, 22], light: 0.75 },
  { key: "tissue", title: "Tissue, two channels", type: "mesmer", count: 160, radius: [11, 16], pages: membranes },
  { key: "movie", title: "A movie", type: "tracking", count: 40, radius: [14, 20], pages: frames },
  { key: "spots", title: "Spots in nuclei", type: "polaris", count: 40, radius: [22, 32], pages: spots },
];

export function sample(key) {
  const about = SAMPLES.find((one) => one.key === key);
  const random = generator(key.length * 7919 + about.count);
  const nuclei = scattered(about, random);
  const pages = (about.pages ?? still)(nuclei, random).map((pen) => finished(pen, about.light ?? 0, random));
  const file = tiff(pages, SIDE, SIDE, key === "movie" ? "frames" : "channels");
  return new File([file], `sample-${key}.tif`, { type: "image/tiff" });
}

function scattered({ count, radius, pages }, random) {
  // Cells with membranes need room between their nuclei.
  const room = pages === membranes ? 1.25 : 0.92;
  const placed = [];
  for (let tries = 0; placed.length < count && tries < count * 40; tries += 1) {
    const r = radius[0] + random() * (radius[1] - radius[0]);
    const x = r + random() * (SIDE - 2 * r), y = r + random() * (SIDE - 2 * r);
    if (placed.some((other) => Math.hypot(other.x - x, other.y - y) < (other.r + r) * room)) continue;
    placed.push({
      x, y, r, level: 110 + random() * 110, turn: random() * Math.PI, flat: 0.72 + random() * 0.28, dx: random() * 8 - 4, dy: random() * 8 - 4,
      grains: Array.from({ length: 5 }, () => [(random() - 0.5) * r, (random() - 0.5) * r, r * (0.08 + random() * 0.12), 0.05 + random() * 0.1]),
    });
  }
  return placed;
}

function still(nuclei) {
  return [drawn(nuclei, nucleus)];
}

function frames(nuclei) {
  return Array.from({ length: FRAMES }, (_, t) =>
    drawn(nuclei.map((one) => ({ ...one, x: one.x + t * one.dx, y: one.y + t * one.dy, turn: one.turn + t * 0.03 })), nucleus));
}

function membranes(nuclei) {
  return [drawn(nuclei, nucleus), drawn(nuclei, (pen, { x, y, r, turn, flat, level }) => {
    pen.strokeStyle = `rgb(${level}, ${level}, ${level})`;
    pen.lineWidth = 3;
    pen.beginPath();
    pen.ellipse(x, y, r * 1.3, r * 1.3 * flat, turn, 0, 2 * Math.PI);
    pen.stroke();
  })];
}

// Spots in the first channel, most of them in nuclei; nuclei in the second.
function spots(nuclei, random) {
  const points = Array.from({ length: 260 }, (_, n) => {
    const home = nuclei[n % (nuclei.length + 8)];
    const far = Math.sqrt(random()) * (home?.r ?? 0) * 0.6, way = random() * 2 * Math.PI;
    return home ? { x: home.x + far * Math.cos(way), y: home.y + far * Math.sin(way) } : { x: random() * SIDE, y: random() * SIDE };
  });
  return [drawn(points, (pen, { x, y }) => {
    const fade = pen.createRadialGradient(x, y, 0, x, y, 4);
    for (let n = 0; n <= 8; n += 1) fade.addColorStop(n / 8, `rgba(255, 255, 255, ${0.8 * Math.exp(-((n / 2) ** 2) / (2 * 1.3 ** 2))})`);
    pen.fillStyle = fade;
    pen.fillRect(x - 4, y - 4, 8, 8);
  }), drawn(nuclei, nucleus)];
}

function drawn(things, draw) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#0c0c0c";
  pen.fillRect(0, 0, SIDE, SIDE);
  for (const thing of things) draw(pen, thing);
  return pen;
}

function nucleus(pen, { x, y, r, level, turn, flat, grains }) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(turn);
  pen.scale(1, flat);
  const fade = pen.createRadialGradient(0, 0, r * 0.2, 0, 0, r);
  fade.addColorStop(0, `rgb(${level}, ${level}, ${level})`);
  fade.addColorStop(0.78, `rgb(${level * 0.86}, ${level * 0.86}, ${level * 0.86})`);
  fade.addColorStop(1, "rgba(12, 12, 12, 0)");
  pen.fillStyle = fade;
  pen.beginPath();
  pen.arc(0, 0, r, 0, 2 * Math.PI);
  pen.fill();
  for (const [at, down, size, light] of grains) {
    pen.fillStyle = `rgba(255, 255, 255, ${light})`;
    pen.beginPath();
    pen.arc(at, down, size, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.restore();
}

// The grey values, with less light away from a corner, and the noise of a camera.
function finished(pen, light, random) {
  const { data } = pen.getImageData(0, 0, SIDE, SIDE);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
    const shade = 1 - light * Math.hypot(i % SIDE - SIDE * 0.3, Math.floor(i / SIDE) - SIDE * 0.3) / SIDE;
    const noise = (random() + random() + random() - 1.5) * 14;
    return Math.min(255, Math.max(0, data[4 * i] * shade + noise));
  });
}

// Xorshift with the shifts 13, 17, 5 (G. Marsaglia, 2003): the same picture each time.
function generator(seed) {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
