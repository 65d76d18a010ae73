// Files under way, kept by the browser until they are jobs: after a reload they go on by themselves.
// Other windows leave them alone while a lock tells that this one is at it. Without locks (a page that did not come
// by https) or for very large files nothing is kept; then choosing the file again goes on where it was.

const LARGEST = 1_000_000_000;
const able = () => Boolean(navigator.locks && window.indexedDB);

// Does something with a file, and keeps the file meanwhile.
export async function keeping(entry, act) {
  if (!able() || entry.file.size > LARGEST) return act();
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

// What an earlier visit has left, and no other window is at.
export async function left() {
  if (!able()) return [];
  const busy = new Set((await navigator.locks.query()).held.map((lock) => lock.name));
  const entries = await change("readonly", (files) => files.getAll()).catch(() => []);
  return entries.filter((entry) => !busy.has(entry.id));
}

function change(mode, act) {
  return new Promise((done, failed) => {
    const opening = indexedDB.open("cellkiosk", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("files", { keyPath: "id" });
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = () => {
      const base = opening.result;
      const asked = act(base.transaction("files", mode).objectStore("files"));
      asked.transaction.oncomplete = () => { base.close(); done(asked.result); };
      asked.transaction.onabort = () => { base.close(); failed(asked.transaction.error); };
    };
  });
}
