// Sample images, drawn here: bright round nuclei on a dark, noisy ground, as a fluorescence microscope shows them.

const KINDS = {
  sparse: { count: 45, radius: [16, 26], light: 0, name: "sample-sparse-nuclei.png" },
  dense: { count: 240, radius: [10, 17], light: 0, name: "sample-dense-nuclei.png" },
  uneven: { count: 90, radius: [13, 22], light: 0.75, name: "sample-uneven-light.png" },
};

export async function sample(kind) {
  const { count, radius, light, name } = KINDS[kind];
  const side = 512;
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const random = generator(kind.length * 7919 + count);
  pen.fillStyle = "#0c0c0c";
  pen.fillRect(0, 0, side, side);
  const placed = [];
  for (let tries = 0; placed.length < count && tries < count * 40; tries += 1) {
    const r = radius[0] + random() * (radius[1] - radius[0]);
    const x = r + random() * (side - 2 * r), y = r + random() * (side - 2 * r);
    if (placed.some((other) => Math.hypot(other.x - x, other.y - y) < (other.r + r) * 0.92)) continue;
    placed.push({ x, y, r });
    nucleus(pen, x, y, r, random);
  }
  finish(pen, side, light, random);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], name, { type: "image/png" });
}

function nucleus(pen, x, y, r, random) {
  const level = 110 + random() * 110;
  pen.save();
  pen.translate(x, y);
  pen.rotate(random() * Math.PI);
  pen.scale(1, 0.72 + random() * 0.28);
  const fade = pen.createRadialGradient(0, 0, r * 0.2, 0, 0, r);
  fade.addColorStop(0, `rgb(${level}, ${level}, ${level})`);
  fade.addColorStop(0.78, `rgb(${level * 0.86}, ${level * 0.86}, ${level * 0.86})`);
  fade.addColorStop(1, "rgba(12, 12, 12, 0)");
  pen.fillStyle = fade;
  pen.beginPath();
  pen.arc(0, 0, r, 0, 2 * Math.PI);
  pen.fill();
  for (let i = 0; i < 5; i += 1) {
    pen.fillStyle = `rgba(255, 255, 255, ${0.05 + random() * 0.1})`;
    pen.beginPath();
    pen.arc((random() - 0.5) * r, (random() - 0.5) * r, r * (0.08 + random() * 0.12), 0, 2 * Math.PI);
    pen.fill();
  }
  pen.restore();
}

function finish(pen, side, light, random) {
  const image = pen.getImageData(0, 0, side, side);
  for (let i = 0; i < image.data.length; i += 4) {
    const x = (i / 4) % side, y = Math.floor(i / 4 / side);
    const shade = 1 - light * Math.hypot(x - side * 0.3, y - side * 0.3) / side;
    const noise = (random() + random() + random() - 1.5) * 14;
    const value = image.data[i] * shade + noise;
    image.data[i] = image.data[i + 1] = image.data[i + 2] = value;
  }
  pen.putImageData(image, 0, 0);
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
