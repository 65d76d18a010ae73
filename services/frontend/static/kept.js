// Files under way, kept by the browser until they are jobs: after a reload they go on by themselves, for their owner
// alone: who signs in next at the same machine neither sees nor sends them.
// Other windows leave them alone while a lock tells that this one is at it. Without locks (a page that did not come
// by https) or for very large files nothing is kept; then choosing the file again goes on where it was.

const LARGEST = 1_000_000_000;
const able = () => Boolean(navigator.locks && window.indexedDB);

// Whether a file outlives a reload.
export const keepable = (file) => able() && file.size <= LARGEST;

// Does something with a file, and keeps the file meanwhile.
export async function keeping(entry, act) {
  if (!keepable(entry.file)) return act();
  return navigator.locks.request(entry.id, async () => {
    const kept = change("readwrite", (files) => files.put(entry)).catch(() => {});
    try {
      return await act();
    } finally {
      await kept;
      await change("readwrite", (files) => files.delete(entry.id)).catch(() => {});
    }
  });
}

// What an earlier visit of an owner has left, and no other window is at.
export async function left(owner) {
  if (!able()) return [];
  const busy = new Set((await navigator.locks.query()).held.map((lock) => lock.name));
  return (await owned(owner)).filter((entry) => !busy.has(entry.id));
}

// Keeps nothing of an owner any more.
export async function forget(owner) {
  if (!able()) return;
  for (const { id } of await owned(owner)) await change("readwrite", (files) => files.delete(id)).catch(() => {});
}

async function owned(owner) {
  const entries = await change("readonly", (files) => files.getAll()).catch(() => []);
  return entries.filter((entry) => entry.owner === owner);
}

function change(mode, act) {
  return new Promise((done, failed) => {
    const opening = indexedDB.open("cellkiosk", 2);
    opening.onupgradeneeded = ({ oldVersion }) => {
      // The entries of version 1 do not tell whose they are.
      if (oldVersion) opening.result.deleteObjectStore("files");
      opening.result.createObjectStore("files", { keyPath: "id" });
    };
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = () => {
      const base = opening.result;
      const asked = act(base.transaction("files", mode).objectStore("files"));
      asked.transaction.oncomplete = () => { base.close(); done(asked.result); };
      asked.transaction.onabort = () => { base.close(); failed(asked.transaction.error); };
    };
  });
}
