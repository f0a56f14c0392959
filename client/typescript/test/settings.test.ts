import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";

import { parseAddress } from "../src/node/address.js";
import { type ClientOptions, RewardClient } from "../src/node/index.js";

const TOKEN = "very-secret-token";

function refusal(options: ClientOptions): string {
  try {
    new RewardClient(options);
  } catch (error) {
    const told = inspect(error, { depth: 9 });
    assert(!told.includes(TOKEN), "no token stands in an error");
    return (error as { field: string }).field;
  }
  return "taken";
}

test("addresses are host and port, or the path of a socket", () => {
  const read = (text: string): unknown[] => {
    const { host, port, path, isLocal } = parseAddress(text);
    return [host, port, path, isLocal];
  };
  assert.deepEqual(read("rewards.test:50051"), ["rewards.test", 50051, undefined, false]);
  assert.deepEqual(read("127.0.0.1:1"), ["127.0.0.1", 1, undefined, true]);
  assert.deepEqual(read("[::1]:1"), ["::1", 1, undefined, true]);
  assert.deepEqual(read("unix:/run/rm.sock"), ["localhost", 0, "/run/rm.sock", true]);
  assert.deepEqual(read("unix:///run/rm.sock"), ["localhost", 0, "/run/rm.sock", true]);
  for (const text of ["", "localhost", "localhost:", ":1", "::1:1", "a:b", "a:70000", "http://a:1", "a b:1", "unix:"]) {
    assert.equal(refusal({ address: text }), "address", text);
  }
});

test("a token leaves this machine with TLS only, unless the caller says so", () => {
  for (const address of ["localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:/a"]) {
    assert.equal(refusal({ address, token: TOKEN }), "taken", address);
  }
  for (const address of ["rewards.test:1", "localhost.rewards.test:1", "127.0.0.1.rewards.test:1", "10.0.0.1:1", "[::2]:1"]) {
    assert.equal(refusal({ address, token: TOKEN }), "token", address);
  }
  assert.equal(refusal({ address: "rewards.test:1", token: TOKEN, tls: true }), "taken");
  assert.equal(refusal({ address: "rewards.test:1", token: TOKEN, insecure: true }), "taken");
});

test("a token is what a header can hold, and is shown nowhere", () => {
  assert.equal(refusal({ token: "" }), "token");
  assert.equal(refusal({ token: `${TOKEN}\r\nx: y` }), "token");
  const client = new RewardClient({ token: TOKEN });
  assert(!inspect(client, { depth: 9, showHidden: true }).includes(TOKEN));
  assert(!JSON.stringify(client).includes(TOKEN));
});

test("files of TLS are read when the client is made", () => {
  const noPem = join(tmpdir(), `rm-grpc-no-pem-${process.pid}`);
  writeFileSync(noPem, "nothing");
  assert.equal(refusal({ caFile: "/nowhere/ca.pem" }), "caFile");
  assert.equal(refusal({ caFile: noPem }), "caFile");
  assert.equal(refusal({ certFile: noPem }), "keyFile");
  assert.equal(refusal({ keyFile: noPem }), "certFile");
  assert.equal(refusal({ tls: false, serverName: "a" }), "tls");
});

test("numbers and names are looked at", () => {
  assert.equal(refusal({ timeoutMs: -1 }), "timeoutMs");
  assert.equal(refusal({ timeoutMs: NaN }), "timeoutMs");
  assert.equal(refusal({ reconnectMs: -1 }), "reconnectMs");
  assert.equal(refusal({ attempts: 0 }), "attempts");
  assert.equal(refusal({ attempts: 1.5 }), "attempts");
  assert.equal(refusal({ ordering: "sideways" as "completion" }), "ordering");
  assert.equal(refusal({ options: { controlTokens: "eat" as "allow" } }), "options.controlTokens");
});
