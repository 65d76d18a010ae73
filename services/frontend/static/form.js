// A form drawn from the JSON Schema of a job type's options. What is left as it is, is not sent.

import { make } from "./dom.js";

export class OptionsForm {
  constructor(place) {
    this.place = place;
    this.fields = [];
  }

  show(schema) {
    this.fields = [];
    this.place.replaceChildren();
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const field = draw(name, resolve(property, schema), schema);
      this.fields.push(field);
      this.place.append(field.element);
    }
    if (!this.fields.length) this.place.append(make("p", { class: "help" }, "This analysis has no options."));
  }

  values() {
    const values = {};
    for (const field of this.fields) {
      const value = field.value();
      if (value !== undefined && JSON.stringify(value) !== JSON.stringify(field.initial)) values[field.name] = value;
    }
    return values;
  }
}

function resolve(property, root) {
  if (property.$ref) {
    const { $ref, ...rest } = property;
    return { ...resolve(root.$defs?.[$ref.split("/").pop()] ?? {}, root), ...rest };
  }
  const options = property.anyOf ?? property.oneOf ?? property.allOf;
  if (!options) return property;
  const real = options.map((option) => resolve(option, root)).filter((option) => option.type !== "null");
  return { ...(real[0] ?? {}), ...property };
}

function draw(name, property) {
  const id = `option-${name}`;
  const title = property.title ?? name;
  const help = property.description ? make("p", { class: "help", id: `${id}-help` }, property.description) : null;
  const described = help ? { "aria-describedby": `${id}-help` } : {};
  const initial = property.default;
  if (property.type === "boolean") {
    const input = make("input", { type: "checkbox", id, ...described });
    input.checked = Boolean(initial);
    const element = make("div", { class: "field" }, make("label", { class: "check", for: id }, input, " ", title), help);
    return { name, initial: Boolean(initial), element, value: () => input.checked };
  }
  const input = property.enum ? select(id, property, described) : text(id, property, described);
  const element = make("div", { class: "field" }, make("label", { for: id }, title), input, help);
  return { name, initial, element, value: () => read(input.value, property) };
}

function select(id, property, described) {
  const input = make("select", { id, ...described });
  for (const choice of property.enum) input.append(make("option", { value: String(choice) }, String(choice) || "(automatic)"));
  input.value = String(property.default ?? property.enum[0]);
  return input;
}

function text(id, property, described) {
  const number = property.type === "number" || property.type === "integer";
  const initial = property.default;
  const input = make("input", {
    type: number ? "number" : "text", id, ...described,
    min: number ? property.minimum : null, max: number ? property.maximum : null,
    step: number ? (property.type === "integer" ? "1" : "any") : null,
    maxlength: number ? null : "200", ...shape(property), placeholder: initial === null || initial === "" || initial?.length === 0 ? "automatic" : null,
  });
  input.value = initial === null || initial === undefined ? "" : Array.isArray(initial) ? initial.join(", ") : String(initial);
  return input;
}

// What a text must look like, so that it is refused before anything is uploaded.
function shape({ type, items, pattern }) {
  if (type === "array" && items?.type === "integer") return { pattern: "\\s*(\\d+([\\s,;]+\\d+)*)?[\\s,;]*", title: "Whole numbers, separated by commas" };
  return type === "string" && pattern ? { pattern: pattern.replace(/^\^|\$$/g, "") } : {};
}

function read(text, property) {
  const trimmed = text.trim();
  if (property.type === "array") {
    if (!trimmed) return [];
    const number = ["integer", "number"].includes(property.items?.type);
    return trimmed.split(/[\s,;]+/).filter(Boolean).map((part) => (number && !Number.isNaN(Number(part)) ? Number(part) : part));
  }
  if (!trimmed) return property.default === "" ? "" : undefined;
  if (property.type === "number" || property.type === "integer") return Number(trimmed);
  if (property.enum) return property.enum.find((choice) => String(choice) === trimmed);
  return trimmed;
}
