// Requests to the server that this page came from, and the frame that all pages share.

const STORED = "modelport-key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The key stays in this tab: sessionStorage ends with it.
export const key = {
  get: () => sessionStorage.getItem(STORED) || "",
  set: (value) => (value ? sessionStorage.setItem(STORED, value) : sessionStorage.removeItem(STORED)),
};

/** Send a request with the key, if there is one, and return the Response. Throws ApiError, in the server's words. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server cannot be reached");
  }
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return response;
}

/** The same, for an answer in JSON. */
export async function json(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the answer is not that of the server, or it was broken off"); // a proxy's page, say
  }
}

async function errorText(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, message } = JSON.parse(text);
    return error || message || text;
  } catch {
    const isSentence = /^text\/plain\b/.test(response.headers.get("Content-Type")); // not a proxy's page
    return (isSentence && text) || `the server cannot be reached: ${response.status} ${response.statusText}`.trim();
  }
}

/** Create an element: tag, attributes and properties, children. A function is a listener, `onclick` say. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.replace(/^on/, ""), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Fill the page's header. Every page has the same links, and a button for the key. */
export function drawHeader() {
  const button = element("button", { class: "plain", onclick: () => askForKey() }, "");
  const name = () => { button.textContent = key.get() ? "Change key" : "Enter key"; };
  name();
  document.addEventListener("modelport-key", name);
  document.getElementById("header").replaceChildren(
    element("a", { class: "brand", href: "/" }, element("img", { src: "/console/files/icon.svg", alt: "" }), "modelport"),
    element("nav", { "aria-label": "Pages" },
      element("a", { href: "/" }, "Models"), element("a", { href: "/docs" }, "API"), element("a", { href: "/metrics" }, "Metrics")),
    element("span", { class: "spring" }),
    element("span", { class: "quiet", id: "server" }),
    button,
  );
}

/** Ask for an API key or a token. Resolves when the dialog is closed; pages listen for "modelport-key". */
export function askForKey(reason = "") {
  return new Promise((resolve) => {
    if (document.querySelector("dialog[open]")) return resolve();
    const input = element("input", { type: "password", id: "key", autocomplete: "off", value: key.get() });
    const close = () => dialog.close();
    const save = (event) => {
      event.preventDefault();
      key.set(input.value.trim());
      document.dispatchEvent(new Event("modelport-key"));
      close();
    };
    const dialog = element("dialog", { "aria-labelledby": "key-title" },
      element("form", { onsubmit: save },
        element("h2", { id: "key-title" }, "API key or token"),
        reason ? element("p", { class: "note" }, reason) : null,
        element("label", { for: "key" }, "It is kept in this tab only, and sent as Authorization: Bearer."),
        input,
        element("div", { class: "actions" },
          element("button", { type: "button", class: "plain", onclick: close }, "Cancel"),
          element("button", { class: "main" }, "Use it"))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Show a message at the bottom of the page, which screen readers speak; "" removes it. */
export function say(message) {
  const status = document.getElementById("status");
  if (status.textContent !== message) status.textContent = message;
}

/**
 * Call `draw` with what `read` returns, now and again, while the page is visible. Without permission, the key is asked
 * for once.
 */
export function poll(read, draw, milliseconds = 2000) {
  let timer = 0, running = false, asked = false;
  const turn = async () => {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    try {
      draw(await read());
      say("");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(error.message);
      if (error.status === 401 && !asked) {
        asked = true;
        askForKey(error.message);
      }
    } finally {
      running = false;
      timer = setTimeout(turn, milliseconds);
    }
  };
  document.addEventListener("visibilitychange", turn);
  document.addEventListener("modelport-key", turn);
  turn();
  return turn;
}
