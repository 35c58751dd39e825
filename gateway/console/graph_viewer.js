// Starts Netron's viewer for one model, in the frame of graph.js. It takes the place of Netron's own start file, which
// asks a server on the internet where the user is, reports what is opened, and refuses to run when Netron is half a year
// old. The files of the model come from this server, with the key that the user has entered.

import { key, json } from "/console/files/api.js";
import { Host } from "/console/netron/browser.js";
import { View } from "/console/netron/view.js";

const parameters = new URLSearchParams(location.search);
const model = encodeURIComponent(parameters.get("model"));
const version = encodeURIComponent(parameters.get("version"));
const artifactPath = `/console/models/${model}/versions/${version}/artifact`;

const encoded = (file) => file.split("/").map(encodeURIComponent).join("/");
const tell = (message) => window.parent.postMessage(message, location.origin);

class ModelHost extends Host {
  constructor(artifact) {
    super();
    this._artifact = artifact;
  }

  async view(view) {
    this._view = view;
  }

  event() {}

  exception(error) {
    console.info(error); // some are expected, such as a file that need not exist
  }

  async start() {
    this._withoutMenus("&Open...", "&Help");
    const { main, name } = this._artifact;
    if ((await this._openModel(`${artifactPath}/${encoded(main)}`, null, name)) === "") tell({ graph: "shown" });
  }

  /** Leave out what opens other files or leads to other servers. */
  _withoutMenus(...labels) {
    const menu = this._view._menu;
    menu.items = menu.items.filter((group) => !labels.includes(group.label));
    for (const group of menu.items) {
      for (const item of group.items) if (labels.includes(item.label)) menu.unregister(item);
      group.items = group.items.filter((item) => !labels.includes(item.label));
    }
  }

  async execute() {}

  openURL(url) {
    window.open(url, "_blank", "noopener,noreferrer"); // the user has clicked on a link in the description of an operator
  }

  async fetch(file, encoding, base) {
    if (base && !this._artifact.files.includes(file)) throw new Error(`the artifact has no file '${file}'`);
    return super.fetch(base ? encoded(file) : file, encoding, base);
  }

  async _request(url, headers, ...others) {
    const credentials = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
    return super._request(url, { ...headers, ...credentials }, ...others);
  }

  _url(file) {
    return file.startsWith("/") ? file : super._url(file);
  }

  async message(text, alert, action) {
    if (!alert) return super.message(text, alert, action);
    tell({ graph: "failed", reason: `Netron ${this.version} cannot show this model: ${text}` });
    return new Promise(() => {}); // what follows would lead to Netron's issues
  }
}

try {
  new View(new ModelHost(await json(artifactPath))).start();
} catch (error) {
  tell({ graph: "failed", reason: error.message });
}
