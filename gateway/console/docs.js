// The page of the API: Swagger UI over /openapi.json. "Try it out" sends the key that the user has entered.

import { ApiError, askForKey, drawHeader, json, key, say } from "/console/files/api.js";

function show(spec) {
  globalThis.SwaggerUIBundle({
    spec,
    domNode: document.getElementById("main"),
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    validatorUrl: null, // otherwise it sends the specification to validator.swagger.io
    requestInterceptor: (request) => {
      if (key.get()) request.headers.Authorization = `Bearer ${key.get()}`;
      return request;
    },
  });
}

async function load() {
  try {
    show(await json("/openapi.json"));
    say("");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message);
    if (error.status === 401) await askForKey(error.message);
  }
}

// Swagger UI's dark style goes by this class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
drawHeader();
document.addEventListener("modelport-key", load);
load();
