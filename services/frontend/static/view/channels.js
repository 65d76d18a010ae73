// The channels of an image: which are shown, in what colour, from which intensity to which, how bright between.

import { make } from "../dom.js";

const TINTS = ["#ffffff", "#00e676", "#ff40ff", "#40c4ff", "#ffd740", "#ff5252"];

export class Channels {
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.looks = [];
  }

  show({ channels, channel }) {
    this.looks = channels.map((_, number) => ({
      channel: number, on: number === channel, low: 0, high: 255, gamma: 1,
      tint: channels.length === 1 || number === channel ? TINTS[0] : TINTS[1 + ((number + 5 - (number > channel)) % 5)],
    }));
    this.place.replaceChildren(...channels.map((about, number) => this.block(about, this.looks[number], number, channels.length > 1)));
  }

  block(about, look, number, several) {
    const changed = () => this.changed(this.looks.map((one) => ({ ...one })));
    const real = (value) => tell(about.low + (value / 255) * (about.high - about.low));
    const slider = (name, field, text, range) => {
      const id = `channel-${number}-${field}`;
      const out = make("output", { id: `${id}-out` }, text(look[field]));
      const input = make("input", { type: "range", id, ...range, value: String(range.from(look[field])), "aria-label": `${name} of ${about.name}` });
      input.addEventListener("input", () => {
        look[field] = range.to(Number(input.value));
        out.textContent = text(look[field]);
        changed();
      });
      return [make("label", { for: id }, name, " ", out), input];
    };
    const ends = { min: "0", max: "255", from: (value) => value, to: (value) => value };
    // Gamma runs over a logarithmic scale, 1 in the middle.
    const bend = { min: "-100", max: "100", from: (value) => -100 * Math.log2(value) / 2, to: (value) => 2 ** (-2 * value / 100) };
    return make("div", { class: "channel" },
      several && this.head(about, look, number, changed),
      ...slider("Black at", "low", real, ends), ...slider("White at", "high", real, ends),
      ...slider("Midtones (gamma)", "gamma", (value) => value.toFixed(2), bend));
  }

  head(about, look, number, changed) {
    const box = make("input", { type: "checkbox", id: `channel-${number}-on`, checked: look.on });
    box.addEventListener("change", () => { look.on = box.checked; changed(); });
    const tint = make("input", { type: "color", value: look.tint, "aria-label": `Colour of ${about.name}` });
    tint.addEventListener("input", () => { look.tint = tint.value; changed(); });
    return make("div", { class: "row spread" }, make("label", { class: "check", for: box.id }, box, " ", about.name), tint);
  }
}

function tell(value) {
  return Math.abs(value) >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString() : value.toPrecision(3);
}
