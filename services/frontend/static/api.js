// Calls of API v1. Every failure becomes a Problem with a sentence for people.

export class Problem extends Error {
  constructor(status, code, sentence, after = 0) {
    super(sentence);
    this.status = status;
    this.code = code;
    this.after = after;
  }
}

export async function problemOf(response) {
  let told = {};
  try { told = await response.json(); } catch { /* not one of ours, such as a proxy's page */ }
  const after = Number(response.headers.get("Retry-After")) || 0;
  return new Problem(response.status, told.code ?? "error", told.detail ?? `The service answered ${response.status}.`, after);
}

export async function call(path, { method = "GET", json, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { ...headers, ...(json === undefined ? {} : { "Content-Type": "application/json" }) },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
  } catch {
    throw new Problem(0, "offline", "The service cannot be reached. Check your connection; it is tried again.");
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

export const me = () => call("/api/v1/me");
export const jobTypes = async () => (await call("/api/v1/job-types")).job_types;
export const jobs = (cursor = "") => call(`/api/v1/jobs?limit=24&cursor=${encodeURIComponent(cursor)}`);
export const job = (id) => call(`/api/v1/jobs/${id}`);
export const batch = (id) => call(`/api/v1/batches/${id}`);
export const cancelBatch = (id) => call(`/api/v1/batches/${id}`, { method: "DELETE" });
export const submit = (wish, key) =>
  call("/api/v1/jobs", { method: "POST", json: wish, headers: { "Idempotency-Key": key } });
export const cancel = (id) => call(`/api/v1/jobs/${id}`, { method: "DELETE" });
export const retry = (id) => call(`/api/v1/jobs/${id}/retry`, { method: "POST", json: {} });
export const forget = (id) => call(`/api/v1/jobs/${id}/expiry`, { method: "PUT", json: { seconds: 0 } });
export const signIn = (key) => call("/api/v1/sign-in", { method: "POST", json: { key } });
export const signOut = () => call("/api/v1/sign-in", { method: "DELETE" });
