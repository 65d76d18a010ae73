// Uploads with progress, a few at a time; a lost connection is waited for, and the upload tried again.

import { Problem } from "./api.js";

const AT_ONCE = 3;
const ONE_GO = 1_000_000;
const SAMPLED = 32_768;
const BYTES = "application/offset+octet-stream";
const PAUSES = [1, 2, 4, 8, 15, 30];
let running = 0;
const waiting = [];

export async function upload(file, { progress, said, signal }) {
  if (running >= AT_ONCE) await new Promise((next) => waiting.push(next));
  running += 1;
  try {
    for (let tries = 0; ; tries += 1) {
      try {
        return await send(file, progress, signal);
      } catch (error) {
        const again = error instanceof Problem && [0, 429, 503].includes(error.status) && tries < 40;
        if (!again || signal.aborted) throw error;
        const pause = error.after || PAUSES[Math.min(tries, PAUSES.length - 1)];
        said(error.status ? `${error.message} Trying again in ${pause} s.` : `The connection was lost. Trying again in ${pause} s.`);
        await rest(pause, signal);
      }
    }
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

// Under which an upload is remembered: files of one name, size and time in two folders differ somewhere.
async function markOf(file) {
  let sum = 0x811c9dc5;
  for (const part of [file.slice(0, SAMPLED), file.slice(file.size >> 1, (file.size >> 1) + SAMPLED), file.slice(-SAMPLED)]) {
    for (const byte of new Uint8Array(await part.arrayBuffer())) sum = Math.imul(sum ^ byte, 0x01000193);
  }
  return `upload:${file.name}:${file.size}:${file.lastModified}:${(sum >>> 0).toString(16)}`;
}

// Sends one file by tus 1.0. What was begun before, in this visit or an earlier one, is gone on with.
async function send(file, progress, signal) {
  const mark = await markOf(file);
  let place = localStorage.getItem(mark);
  let at = 0;
  if (place) {
    const told = await request("HEAD", place, {}, null, null, signal).catch((error) => {
      if (error.status === 0 || error.status >= 500) throw error;
      return null;
    });
    if (told === null) place = null;
    else if (told.key) { localStorage.removeItem(mark); return { file: told.key }; }
    else at = told.offset;
  }
  const moved = (loaded) => progress((at + loaded) / Math.max(1, file.size));
  let told;
  if (!place) {
    const headers = { "Upload-Length": String(file.size), "Upload-Metadata": `filename ${base64(file.name)}` };
    if (file.size <= ONE_GO) headers["Content-Type"] = BYTES;
    told = await request("POST", "/api/v1/uploads", headers, file.size <= ONE_GO ? file : null, moved, signal);
    place = told.place;
    if (!told.key) localStorage.setItem(mark, place);
  }
  if (!told?.key) {
    progress(at / Math.max(1, file.size));
    const headers = { "Upload-Offset": String(at), "Content-Type": BYTES };
    told = await request("PATCH", place, headers, file.slice(at), moved, signal).catch((error) => {
      // Where the server knows less than was thought, or nothing any more, the next try asks it.
      if ([404, 410].includes(error.status)) localStorage.removeItem(mark);
      throw [404, 409, 410].includes(error.status) ? new Problem(0, "again", error.message) : error;
    });
  }
  localStorage.removeItem(mark);
  return { file: told.key };
}

function request(method, url, headers, body, moved, signal) {
  return new Promise((done, failed) => {
    if (signal.aborted) throw new Problem(-1, "aborted", "Taken back.");
    const call = new XMLHttpRequest();
    call.open(method, url);
    for (const [name, value] of Object.entries({ "Tus-Resumable": "1.0.0", ...headers })) call.setRequestHeader(name, value);
    if (moved) call.upload.onprogress = (event) => moved(event.loaded);
    call.onload = () => {
      const header = (name) => call.getResponseHeader(name);
      if (call.status < 300) done({ place: header("Location"), offset: Number(header("Upload-Offset")), key: header("Upload-Key") });
      else failed(problem(call));
    };
    call.onerror = () => failed(new Problem(0, "offline", "The connection was lost."));
    call.onabort = () => failed(new Problem(-1, "aborted", "Taken back."));
    signal.addEventListener("abort", () => call.abort(), { once: true });
    call.send(body);
  });
}

function problem(call) {
  let told = {};
  try { told = JSON.parse(call.responseText); } catch { /* no problem document, such as the answer to a HEAD */ }
  const after = Number(call.getResponseHeader("Retry-After")) || 0;
  return new Problem(call.status, told.code ?? "error", told.detail ?? `The service answered ${call.status}.`, after);
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

// Waits some seconds, less if the browser says that it is online again.
function rest(seconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, seconds * 1000);
    addEventListener("online", () => { clearTimeout(timer); done(); }, { once: true });
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

// The files of a drop, folders opened; browsers hand a folder out in pieces.
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((done, failed) => entry.file(done, failed)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!part.length) break;
        for (const inner of part) await walk(inner);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found.filter((file) => !file.name.startsWith("."));
}
