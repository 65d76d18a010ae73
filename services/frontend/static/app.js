// The page: files come in, are uploaded and become jobs; jobs come back as cards.

import * as api from "./api.js";
import { find, make, notice, say } from "./dom.js";
import { OptionsForm } from "./form.js";
import { Intake } from "./intake.js";
import { Jobs } from "./jobs.js";
import { left } from "./kept.js";
import { sample, SAMPLES } from "./samples.js";
import { Session } from "./session.js";
import { filesOf } from "./upload.js";
import { Viewer } from "./viewer.js";

const session = new Session();
const viewer = new Viewer();
const jobs = new Jobs(find("jobs"), async (job) => viewer.open(await api.job(job.id).catch(() => job)));
const intake = new Intake(session, jobs);
jobs.stopUploads = (batch) => intake.stop(batch);
const options = new OptionsForm(find("options"));
let types = [];

async function start() {
  try {
    const me = await session.begin();
    viewer.labelViewer = me.label_viewer;
    await showTypes();
    await jobs.load();
    notice("");
    for (const entry of await left(me.owner)) intake.one(entry.file, entry.wish, entry.id);
    await openNamed();
  } catch (error) {
    if (error.status === 401) session.ask();
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
  showSamples();
  if (!types.length) setTimeout(() => showTypes().catch(() => {}), 2000);
}

function showType() {
  const type = types.find((one) => one.name === find("type").value);
  find("type-about").textContent = type?.description ?? "The service is still starting.";
  options.show(type?.options_schema ?? {});
  find("more").hidden = !Object.keys(type?.options_schema?.properties ?? {}).length;
  if (type) localStorage.setItem("type", type.name);
}

function showSamples() {
  const offered = SAMPLES.filter(({ type }) => types.some((one) => one.name === type));
  find("samples").hidden = !offered.length;
  find("sample-list").replaceChildren(...offered.map(({ key, title, type }) =>
    make("button", { type: "button", class: "chip", "data-sample": key, onclick: () => { choose(type); take([sample(key)]); } }, title)));
}

function choose(type) {
  if (find("type").value === type) return;
  find("type").value = type;
  showType();
}

function take(files) {
  if (!files.length) {
    notice("There was no file in that. Hidden files, whose names begin with a dot, are left out.");
    return;
  }
  const wish = { type: find("type").value, options: options.values() };
  if (!wish.type) {
    notice("No analysis is on offer yet: the service is still starting. Try again in a moment.");
    return;
  }
  if (!find("form").checkValidity()) {
    find("more").open = true;
    find("form").reportValidity();
    notice("An option is not allowed as it is. Correct it, then add the files again.");
    return;
  }
  notice("");
  const batch = files.length > 1 ? newId() : "";
  say(`${files.length} ${files.length === 1 ? "file" : "files"} added.`);
  for (const file of files) intake.one(file, { ...wish, batch }, newId());
}

const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

function listen() {
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
  find("type").addEventListener("change", showType);
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("older").addEventListener("click", () => jobs.load(true).catch((error) => notice(error.message)));
}

listen();
start();
