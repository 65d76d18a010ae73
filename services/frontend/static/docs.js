// The API's pages, drawn from the OpenAPI document.

import { call } from "./api.js";
import { find, make } from "./dom.js";

const root = location.origin;
find("example").textContent = [
  `curl -F file=@cells.tif -F type=segmentation ${root}/api/v1/jobs        # answers the job, with its id`,
  `curl -N ${root}/api/v1/jobs/<id>/events                                 # follows it to its end`,
  `curl -OJ ${root}/api/v1/jobs/<id>/result                                # gets the zip`,
].join("\n");

function kind(schema, document) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => kind(one, document)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(", ");
  if (schema.type === "array") return `list of ${kind(schema.items, document) || "anything"}`;
  return schema.format === "binary" ? "file" : schema.type ?? "anything";
}

function table(rows, heads) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell ?? ""))))));
}

function fields(schema, document) {
  const found = schema.$ref ? document.components.schemas[schema.$ref.split("/").pop()] : schema;
  return Object.entries(found?.properties ?? {}).map(([name, property]) => [
    make("code", {}, name), kind(property, document), found.required?.includes(name) ? "needed" : "", property.description ?? ""]);
}

function operation(path, method, about, document) {
  const parts = [make("p", {}, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path), ` ${about.summary}.`)];
  const inside = [];
  if (about.parameters) {
    inside.push(make("h3", {}, "Parameters"), table(about.parameters.map((one) => [make("code", {}, one.name), kind(one.schema), one.in, one.description]),
      ["Name", "Kind", "Where", "Meaning"]));
  }
  for (const [type, content] of Object.entries(about.requestBody?.content ?? {})) {
    inside.push(make("h3", {}, `Body as ${type}`), table(fields(content.schema, document), ["Field", "Kind", "Needed", "Meaning"]));
  }
  inside.push(make("h3", {}, "Answers"), table(Object.entries(about.responses).map(([status, answer]) => [status,
    Object.entries(answer.content ?? {}).map(([type, content]) => `${kind(content.schema)} (${type})`).join(", "), answer.description]), ["Status", "Answer", "Meaning"]));
  parts.push(make("details", {}, make("summary", {}, "Details"), ...inside));
  return make("article", { id: about.operationId }, ...parts);
}

try {
  const document = await call("/api/openapi.json");
  const place = find("operations");
  place.replaceChildren();
  for (const tag of document.tags) {
    place.append(make("h2", { id: tag.name }, tag.name[0].toUpperCase() + tag.name.slice(1)), make("p", { class: "help" }, tag.description));
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, about] of Object.entries(methods)) if (about.tags?.[0] === tag.name) place.append(operation(path, method, about, document));
    }
  }
} catch (error) {
  find("operations").replaceChildren(make("p", { class: "error" }, error.message));
}
