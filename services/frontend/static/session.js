// Who is here: signing in and out, and telling the other windows, which begin anew: none goes on in another's name.

import * as api from "./api.js";
import { find } from "./dom.js";
import { forget } from "./kept.js";

const windows = "BroadcastChannel" in window ? new BroadcastChannel("session") : null;

export class Session {
  constructor() {
    this.me = { owner: "", max_upload_bytes: Infinity, label_viewer: "" };
    if (windows) windows.onmessage = () => location.reload();
    // A window that comes back from the browser's memory may be another's by now.
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    find("sign").addEventListener("click", () => (this.me.signed_in ? this.leave() : this.ask()));
    find("sign-in-close").addEventListener("click", () => find("sign-in").close());
    find("sign-in-form").addEventListener("submit", (event) => { event.preventDefault(); this.enter(find("key").value.trim()); });
  }

  async begin() {
    this.me = await api.me();
    const button = find("sign");
    button.hidden = this.me.anonymous && !this.me.signed_in;
    button.textContent = this.me.signed_in ? "Sign out" : "Sign in";
    return this.me;
  }

  ask() {
    find("sign").hidden = false;
    if (!find("sign-in").open) find("sign-in").showModal();
  }

  async enter(key) {
    find("sign-in-error").textContent = "";
    try {
      await api.signIn(key);
      this.changed();
    } catch (error) {
      find("sign-in-error").textContent = error.message;
    }
  }

  async leave() {
    await forget(this.me.owner);
    await api.signOut().catch(() => {});
    this.changed();
  }

  changed() {
    windows?.postMessage("changed");
    location.reload();
  }
}
