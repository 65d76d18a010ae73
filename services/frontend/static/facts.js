// What there is to know of a job beside its picture, and what it cost.

import { size } from "./dom.js";

const STAGES = { download: "Reading", preprocess: "Preparing", prediction: "Model", postprocess: "Outlining", upload: "Saving", total: "In all" };

// Rows of name and value; none is empty.
export function factsOf(job) {
  const seconds = Object.entries(job.seconds ?? {}).map(([stage, value]) =>
    [STAGES[stage] ?? stage, `${[value].flat().map((s) => s.toFixed(2)).join(", ")} s`]);
  return [
    ["Analysis", job.type ?? job.id.split(":")[0]],
    ["Model", [job.model, job.model_version].filter(Boolean).join(" ")],
    ...Object.entries(job.options ?? {}).map(([name, value]) => [name, String(value)]),
    ...seconds, ...used(job.cost), ["Job", job.id],
  ].filter(([, value]) => value);
}

function used(cost) {
  if (!cost) return [];
  const times = [["Model server used", `${cost.gpu_seconds.toFixed(2)} s`], ["Processor used", `${cost.cpu_seconds.toFixed(2)} s`],
    ["Moved", size(cost.bytes_in + cost.bytes_out)]];
  return cost.total === null ? times : [...times, ["Cost", `${money(cost)} (prices ${cost.prices})`]];
}

// What something cost, in the currency of the operator's price list; "" where there are no prices.
export function money(cost) {
  if (cost?.total === null || cost?.total === undefined) return "";
  const sign = cost.currency ?? "";
  if (!cost.total) return `${sign}0`;
  const digits = cost.total >= 1 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(cost.total)));
  return `${sign}${cost.total.toFixed(digits)}`;
}
