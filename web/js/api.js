// Calls to the server that the page came from, and who the caller is there.

const PATIENCE_MS = 20_000;
const LOGIN = "/api/login";

// `status` 0: no answer at all. `answer` is the body, whatever it was.
export class CallFailed extends Error {
  constructor(status, detail, answer = {}) {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.answer = answer;
  }
}

// Nobody yet. Pages ask `readSession` first: calls that are refused stand in
// the browser's console as errors.
export const session = { operator: false, how: null, expires: null, refused: null, role: null };

let rightsHook = () => {};

// Called whenever what the visitor may do has changed, however that came.
export const onRights = (hook) => (rightsHook = hook);

export async function call(method, path, body) {
  const options = { method, signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  try {
    const response = await fetch(path, options);
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    if ([401, 403].includes(response.status) && path !== LOGIN) readSession().catch(() => {});
    throw new CallFailed(response.status, textOf(answer.detail), answer);
  } catch (error) {
    if (error instanceof CallFailed) throw error;
    throw new CallFailed(0, "");
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);

// A 422 carries a list of what is wrong instead of a text.
function textOf(detail) {
  if (typeof detail === "string") return detail;
  return detail === undefined ? "" : JSON.stringify(detail);
}

const rights = () => JSON.stringify([session.operator, session.how, session.refused]);

export async function readSession() {
  const before = rights();
  Object.assign(session, await get("/api/session"));
  if (rights() !== before) rightsHook();
  return session;
}

export async function login(token) {
  await post(LOGIN, { token });
  return readSession();
}

export async function logout() {
  await post("/api/logout");
  return readSession();
}
