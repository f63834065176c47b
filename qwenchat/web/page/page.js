// What textual-serve's terminal leaves to its page: where the program is, the fonts, the title, and the keys and clicks
// that a browser takes unless the page claims them.
"use strict";

const WINDOW_TITLE = /\x1b\]2;([^\x07]*)\x07/g;
const FONTS = ["16px 'Roboto Mono'", "bold 16px 'Roboto Mono'", "italic 16px 'Roboto Mono'"];

const terminal = document.getElementById("terminal");
const again = document.querySelector("#ended button");
const address = new URL("ws", location.href);
address.protocol = location.protocol.replace("http", "ws");
terminal.dataset.sessionWebsocketUrl = address.href;

const startTerminal = window.onload;
window.onload = () => Promise.allSettled(FONTS.map((font) => document.fonts.load(font))).then(startTerminal);

const focusTerminal = () => terminal.querySelector("textarea").focus();

window.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url);
    this.addEventListener("open", () => {
      document.body.classList.add("-usable");
      focusTerminal();
    });
    this.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) {
        for (const [, title] of new TextDecoder().decode(data).matchAll(WINDOW_TITLE)) {
          document.title = title;
        }
      }
    });
    this.addEventListener("close", () => {
      document.body.classList.add("-closed"); // which shows the button
      again.focus();
    });
  }
};

again.addEventListener("click", () => location.reload());

if (!navigator.clipboard) {
  // a page that comes from another machine without https: only what is selected can be copied
  Object.defineProperty(navigator, "clipboard", {
    value: {
      writeText: async (text) => {
        const field = document.createElement("textarea");
        field.value = text;
        document.body.append(field);
        field.select();
        document.execCommand("copy");
        field.remove();
        focusTerminal();
      },
    },
  });
}

window.addEventListener(
  "keydown",
  (key) => {
    const pastes = key.ctrlKey && !key.altKey && !key.metaKey && key.key.toLowerCase() === "v";
    if (pastes || key.key === "F11") {
      key.stopImmediatePropagation(); // the browser pastes, or fills the screen; the terminal would send the key
    }
  },
  true,
);

window.addEventListener("contextmenu", (click) => click.preventDefault()); // the program has a menu of its own
