// The page: files come in, are uploaded and become jobs; jobs come back as cards.

import * as api from "./api.js";
import { find, make, notice, say, size } from "./dom.js";
import { OptionsForm } from "./form.js";
import { Jobs } from "./jobs.js";
import { forget, keeping, left } from "./kept.js";
import { sample } from "./samples.js";
import { filesOf, upload } from "./upload.js";
import { Viewer } from "./viewer.js";

const viewer = new Viewer();
const jobs = new Jobs(find("jobs"), async (job) => viewer.open(await api.job(job.id).catch(() => job)));
const options = new OptionsForm(find("options"));
let types = [];
let limits = { max_upload_bytes: Infinity };

async function start() {
  listen();
  try {
    limits = await api.me();
    viewer.labelViewer = limits.label_viewer;
    showSign();
    await showTypes();
    await jobs.load();
    notice("");
    for (const entry of await left(limits.owner)) one(entry.file, entry.wish, entry.id);
    await openNamed();
  } catch (error) {
    if (error.status === 401) askForKey();
    else {
      notice(error.message);
      setTimeout(start, 1000 * Math.max(2, error.after ?? 0));
    }
  }
}

// An address with a job in it, such as a bookmark or a reload, opens that job's picture.
async function openNamed() {
  const id = location.hash.slice(1);
  if (!id) return;
  const named = await api.job(id).catch(() => null);
  if (named) viewer.open(named);
  else notice("The job named in the address is not here (any more).");
}

async function showTypes() {
  types = await api.jobTypes();
  jobs.titles = new Map(types.map((type) => [type.name, type.title]));
  const select = find("type");
  const before = select.value || localStorage.getItem("type");
  select.replaceChildren(...types.map((type) => make("option", { value: type.name }, type.title)));
  if (types.some((type) => type.name === before)) select.value = before;
  showType();
  if (!types.length) setTimeout(() => showTypes().catch(() => {}), 2000);
}

function showType() {
  const type = types.find((one) => one.name === find("type").value);
  find("type-about").textContent = type?.description ?? "The service is still starting.";
  options.show(type?.options_schema ?? {});
  find("more").hidden = !Object.keys(type?.options_schema?.properties ?? {}).length;
  if (type) localStorage.setItem("type", type.name);
}

function take(files) {
  const wish = { type: find("type").value, options: options.values() };
  if (!wish.type) {
    notice("No analysis is on offer yet: the service is still starting. Try again in a moment.");
    return;
  }
  notice("");
  const batch = files.length > 1 ? newId() : "";
  if (files.length) say(`${files.length} ${files.length === 1 ? "file" : "files"} added.`);
  for (const file of files) one(file, { ...wish, batch });
}

const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

async function one(file, wish, id = newId()) {
  const stop = new AbortController();
  const bar = make("progress", { max: "1", value: 0, "aria-label": `Upload of ${file.name}` });
  const said = make("span", { class: "said" });
  const button = make("button", { type: "button", class: "chip", "aria-label": `Stop ${file.name}` }, "Stop");
  const row = make("li", {}, make("span", { class: "name", title: file.name }, `${file.name} · ${size(file.size)}`), bar, button, said);
  button.addEventListener("click", () => { stop.abort(); row.remove(); });
  find("uploads").append(row);
  const { signal } = stop;
  const look = { progress: (share) => { bar.value = share; }, said: (text) => { said.textContent = text; }, signal };
  try {
    if (file.size > limits.max_upload_bytes) {
      throw new Error(`This file is larger than the ${size(limits.max_upload_bytes)} allowed here.`);
    }
    await keeping({ id, owner: limits.owner, file, wish }, async () => {
      const stored = await upload(file, look);
      said.textContent = "";
      jobs.show(await submitted({ ...wish, file: stored.file, name: file.name }, id, signal));
    });
    row.remove();
  } catch (error) {
    if (stop.signal.aborted) return;
    bar.hidden = true;
    said.className = "said error";
    said.setAttribute("role", "alert");
    said.textContent = error.message;
    button.textContent = "Dismiss";
    if (error.status === 401) askForKey();
  }
}

// One key for all tries: a lost answer never makes a second job.
async function submitted(wish, key, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await api.submit(wish, key);
    } catch (error) {
      if (![0, 429, 503].includes(error.status) || tries > 60 || signal.aborted) throw error;
      await new Promise((done) => setTimeout(done, 1000 * (error.after || Math.min(10, tries + 1))));
    }
  }
}

function listen() {
  if (listen.done) return;
  listen.done = true;
  const drop = find("drop");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(await filesOf(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) take([...event.clipboardData.files]); });
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    find(button).addEventListener("click", () => find(input).click());
    find(input).addEventListener("change", (event) => {
      take([...event.target.files].filter((file) => !file.name.startsWith(".")));
      event.target.value = "";
    });
  }
  for (const chip of document.querySelectorAll("[data-sample]")) {
    chip.addEventListener("click", async () => take([await sample(chip.dataset.sample)]));
  }
  find("type").addEventListener("change", showType);
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("older").addEventListener("click", () => jobs.load(true).catch((error) => notice(error.message)));
  find("download-all").addEventListener("click", downloadAll);
  listenToSign();
}

async function downloadAll() {
  for (const url of jobs.downloads()) {
    make("a", { href: url, download: "" }).click();
    await new Promise((done) => setTimeout(done, 400));
  }
}

function showSign() {
  const button = find("sign");
  button.hidden = limits.anonymous && !limits.signed_in;
  button.textContent = limits.signed_in ? "Sign out" : "Sign in";
}

function askForKey() {
  find("sign").hidden = false;
  if (!find("sign-in").open) find("sign-in").showModal();
}

function listenToSign() {
  find("sign").addEventListener("click", async () => {
    if (!limits.signed_in) return askForKey();
    await forget(limits.owner);
    await api.signOut().catch(() => {});
    location.reload();
  });
  find("sign-in-close").addEventListener("click", () => find("sign-in").close());
  find("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await api.signIn(find("key").value.trim());
      location.reload();
    } catch (error) {
      find("sign-in-error").textContent = error.message;
    }
  });
}

start();
