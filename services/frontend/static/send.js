// Hands a result to another viewer: by an address with the files' addresses in it, or by DeepCell Label's import form.

// Returns what a click on "Open in …" does for a job; null where no other viewer is configured, or there is no result.
export function sender(viewer, job) {
  if (!viewer || !job.links.download) return null;
  const sent = {
    labels: new URL(job.links.download, location.href).href, image: new URL(`/${job.file}`, location.href).href,
    // Rows come before columns, and what is many comes first.
    axes: job.axes.replace("XY", "YX").replace("B", "Z"),
  };
  sent.url = sent.labels;
  if (/\{(url|labels|image|axes)\}/.test(viewer)) {
    const address = viewer.replace(/\{(url|labels|image|axes)\}/g, (_, name) => encodeURIComponent(sent[name]));
    return () => { window.open(address, "_blank", "noopener"); };
  }
  return () => importInto(viewer.replace(/\/+$/, ""), sent);
}

// DeepCell Label fetches image and labels itself, and answers the name of the project it has made of them.
async function importInto(viewer, { image, labels, axes }) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ images: image, labels, axes })) if (value) form.append(name, value);
  // Opened before the answer: later the browser would take it for an unasked window.
  const tab = window.open("", "_blank");
  try {
    const answer = await fetch(`${viewer}/api/project`, { method: "POST", body: form });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    const told = await answer.json();
    const address = `${viewer}/project?projectId=${encodeURIComponent(told.projectId ?? told)}`;
    if (tab) { tab.opener = null; tab.location = address; } else location.href = address;
  } catch (error) {
    tab?.close();
    throw new Error(`${new URL(viewer).host} did not take the result (${error.message}). It must be able to reach this service.`);
  }
}
