// Unsaved changes of the configuration, apart from any page: what was edited,
// from what, and whether somebody else changed the same meanwhile. Keys are
// dotted, as in the schema; values are JSON.

export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

const at = (document, key) => key.split(".").reduce((inner, name) => inner?.[name], document) ?? null;

export class Drafts {
  #config = null;
  #edits = new Map(); // key -> { value, base: the server's value when it was edited }

  get size() {
    return this.#edits.size;
  }

  // What the server has now. Edits stay, but for those that it agrees with.
  read(config) {
    this.#config = config;
    for (const [key, { value }] of this.#edits) if (same(value, at(config, key))) this.#edits.delete(key);
  }

  saved = (key) => at(this.#config, key);
  edited = (key) => this.#edits.has(key);
  value = (key) => (this.edited(key) ? this.#edits.get(key).value : this.saved(key));

  edit(key, value) {
    const saved = this.saved(key);
    if (same(value, saved)) this.#edits.delete(key);
    else this.#edits.set(key, { value, base: this.edited(key) ? this.#edits.get(key).base : saved });
  }

  // True when the server's value is another than the one that was edited.
  changedElsewhere(key) {
    return this.edited(key) && !same(this.#edits.get(key).base, this.saved(key));
  }

  keepMine(key) {
    this.#edits.get(key).base = this.saved(key);
  }

  drop(key) {
    this.#edits.delete(key);
  }

  // What was sent and taken is no edit any more; what was typed since is one.
  settle(sent) {
    for (const [key, value] of sent) if (this.edited(key) && same(this.#edits.get(key).value, value)) this.drop(key);
  }

  values = () => [...this.#edits].map(([key, { value }]) => [key, value]);

  clear() {
    this.#edits.clear();
  }

  // The edited keys alone, nested as the API wants them.
  patch() {
    const patch = {};
    for (const [key, { value }] of this.#edits) {
      const names = key.split(".");
      const last = names.pop();
      names.reduce((inner, name) => (inner[name] ??= {}), patch)[last] = value;
    }
    return patch;
  }
}
