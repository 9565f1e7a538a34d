// What a reload, a restart of the server or the browser's Back must not lose. It is in this browser's own database and nowhere else.

const STORE = "parts";
const DAYS = 30;  // after which what nobody came back to is deleted
const TAB = "face-latents.tab";
const PATIENCE = 500;  // milliseconds in which a page that is being left gives its tab's name free

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const newName = () => crypto.getRandomValues(new Uint32Array(2)).join("-");

// Whether no other living page goes by this name; as long as this page lives no other one will. A duplicated tab brings its
// original's name along. Where the browser has no locks (on plain HTTP) that is not noticed.
function claimed(name) {
  return new Promise((resolve) => {
    const hold = () => {
      resolve(true);
      return new Promise(() => {});
    };
    if (!navigator.locks) resolve(true);
    else navigator.locks.request(`${TAB}.${name}`, { signal: AbortSignal.timeout(PATIENCE) }, hold).catch((error) => resolve(error.name !== "TimeoutError"));
  });
}

// Parts are anything that can be cloned, files too. Each tab of the browser has its own, for each model.
class Session {
  constructor() {
    this.waiting = new Map();
    this.opened = new Promise((resolve) => (this.ready = resolve));
  }

  // A duplicate goes on with a copy of its original. `adopt`: a tab that has nothing yet goes on with what was left last. Whether this tab had something itself is `returned`.
  // Where the browser has no database the session is `broken`: it recalls nothing and keeps nothing.
  async open(model, adopt) {
    this.model = model;
    try {
      this.tab = sessionStorage.getItem(TAB);
      this.returned = Boolean(this.tab);
      const original = this.returned && !(await claimed(this.tab)) ? this.tab : null;
      if (!this.returned || original) {
        sessionStorage.setItem(TAB, (this.tab = newName()));
        await claimed(this.tab);
      }
      const opening = indexedDB.open("face-latents", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: ["model", "tab", "part"] });
      this.database = await done(opening);
      const all = await this.times();
      const old = all.filter(({ time }) => Date.now() - time > DAYS * 86_400_000);
      for (const { key } of old) await done(this.store("readwrite").delete(key));
      const mine = all.filter(({ key: [of] }) => of === model);
      if (original) await this.copy(original);
      if (!this.returned && adopt && mine.length) await this.copy(mine.sort((a, b) => b.time - a.time)[0].key[1]);
    } catch {
      this.broken = true;
    }
    this.ready();
  }

  store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }

  // Every part's key and time.
  times() {
    const found = [];
    return new Promise((resolve, reject) => {
      const request = this.store("readonly").openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = ({ target: { result: cursor } }) => {
        if (!cursor) return resolve(found);
        found.push({ key: cursor.key, time: cursor.value.time });
        cursor.continue();
      };
    });
  }

  async copy(tab) {
    const range = IDBKeyRange.bound([this.model, tab], [this.model, tab, []]);
    for (const record of await done(this.store("readonly").getAll(range))) await done(this.store("readwrite").put({ ...record, tab: this.tab }));
  }

  // What was kept as this part, or null.
  async recall(part) {
    await this.opened;
    if (this.broken) return null;
    const record = await done(this.store("readonly").get([this.model, this.tab, part])).catch(() => null);
    return record?.value ?? null;
  }

  // The newest value of a part is kept; whether that works is `broken`'s to say.
  async keep(part, value) {
    this.waiting.set(part, value);
    await this.opened;
    if (this.broken || this.writing) return;
    this.writing = true;
    while (this.waiting.size && !this.broken) {
      const [[next, wanted]] = this.waiting;
      this.waiting.delete(next);
      try {
        await done(this.store("readwrite").put({ model: this.model, tab: this.tab, part: next, time: Date.now(), value: wanted }));
      } catch {
        this.broken = true;
      }
    }
    this.writing = false;
  }

  // Everything, in every tab.
  async forget() {
    await this.opened;
    this.waiting.clear();
    if (!this.broken) await done(this.store("readwrite").clear());
  }
}

export const session = new Session();
