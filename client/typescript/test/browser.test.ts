import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { buildSync } from "esbuild";

import { type TestServer, serve } from "./server.js";
import { type ClientOptions, RewardClient, RewardError } from "../src/browser/index.js";

async function connected(
  t: TestContext,
  options: Partial<ClientOptions> = {},
  changed: Parameters<typeof serve>[1] = {},
): Promise<{ server: TestServer; client: RewardClient }> {
  const server = await serve("connect", changed);
  t.after(() => server.close());
  return { server, client: new RewardClient({ baseUrl: `http://${server.address}/`, ...options }) };
}

function failure(reason: string): (error: unknown) => boolean {
  return (error) => error instanceof RewardError && error.reason === reason;
}

const ITEMS = [{ id: "slow", text: "wait" }, { id: "a", text: "0.1" }, { id: "a", text: "refuse" }, { text: "\ud800" }];

for (const format of ["binary", "json"] as const) {
  test(`${format}: a list is scored in its order`, async (t) => {
    const { client } = await connected(t, { format });
    const results = await client.score(ITEMS);
    assert.deepEqual(
      results.map(({ id, index, score, error }) => [id, index, score?.score ?? error?.reason]),
      [
        ["slow", 0, 0],
        ["a", 1, Math.fround(0.1)],
        ["a", 2, "NO_RESPONSE"],
        ["3", 3, "INVALID_REQUEST"],
      ],
    );
    assert.equal(results[2]?.error?.field, "conversation", "not a place in the list that was sent");
  });

  test(`${format}: results come as they are ready`, async (t) => {
    const { client } = await connected(t, { format });
    const indices: number[] = [];
    for await (const { index } of client.scoreEach(ITEMS)) {
      indices.push(index);
    }
    assert.deepEqual(indices, [3, 1, 2, 0]);
  });

  test(`${format}: a failed call is a typed error`, async (t) => {
    const { client } = await connected(t, { format, model: "other" });
    const failed = await client.score(ITEMS).catch((error: unknown) => error);
    assert(failed instanceof RewardError);
    assert.deepEqual(
      [failed.code, failed.reason, failed.field, failed.message, failed.metadata],
      ["NOT_FOUND", "MODEL_NOT_FOUND", "model", "no model 'other' is served", { served: "m" }],
    );
    await assert.rejects(client.scoreEach([{ text: "1" }]).next(), failure("MODEL_NOT_FOUND"));
  });

  test(`${format}: models and tokens are told`, async (t) => {
    const { client } = await connected(t, { format });
    const [model] = await client.listModels();
    assert.deepEqual([model?.name, model?.limits.maxLength, model?.limits.maxMessageBytes], ["m", 2048, 1000]);
    assert.equal((await client.getModel()).name, "m");
    const [told] = await client.tokenize([{ id: "a", text: "x" }]);
    assert.deepEqual([told?.id, told?.tokenization?.ids], ["a", [1, 2]]);
  });
}

test("without items nothing is asked", async () => {
  const client = new RewardClient({ baseUrl: "http://127.0.0.1:1" });
  assert.deepEqual(await client.score([]), []);
  assert.equal((await client.scoreEach([]).next()).done, true);
});

test("a server that is not there is UNAVAILABLE", async () => {
  const client = new RewardClient({ baseUrl: "http://127.0.0.1:1" });
  await assert.rejects(client.score([{ text: "1" }]), failure("UNAVAILABLE"));
  await assert.rejects(client.scoreEach([{ text: "1" }]).next(), failure("UNAVAILABLE"));
});

test("a server that is lost on the way is UNAVAILABLE", async (t) => {
  const { server, client } = await connected(t);
  const results = client.scoreEach([{ text: "1" }, { text: "never" }]);
  await results.next();
  server.breakConnections();
  await assert.rejects(results.next(), failure("UNAVAILABLE"));
});

test("a call that ends before every item is answered has failed", async (t) => {
  const { client } = await connected(t, {}, { score: () => ({}), async *scoreEach() {} });
  await assert.rejects(client.score([{ text: "1" }]), failure("UNAVAILABLE"));
  await assert.rejects(client.scoreEach([{ text: "1" }]).next(), failure("UNAVAILABLE"));
});

test("a page of another kind is told by its status", async () => {
  const fetch = async (): Promise<Response> => new Response("not here", { status: 404 });
  const client = new RewardClient({ baseUrl: "http://127.0.0.1:1", fetch });
  await assert.rejects(client.listModels(), { code: "UNIMPLEMENTED", message: "HTTP 404" });
});

test("a signal ends a call with its reason", async (t) => {
  const { client } = await connected(t);
  const controller = new AbortController();
  const { signal } = controller;
  const calls = [client.score([{ text: "never" }], { signal }), client.scoreEach([{ text: "never" }], { signal }).next()];
  const settled = Promise.allSettled(calls);
  await sleep(100);
  controller.abort(new Error("enough"));
  for (const outcome of await settled) {
    assert(outcome.status === "rejected");
    assert.match(String(outcome.reason), /enough/);
  }
});

test("leaving the loop ends the call", async (t) => {
  let ended: (value: unknown) => void;
  const end = new Promise((resolve) => (ended = resolve));
  const { client } = await connected(
    t,
    {},
    {
      async *scoreEach({ items }, { signal }) {
        signal.addEventListener("abort", ended);
        while (!signal.aborted) {
          yield { results: items.map(({ id }) => ({ id, outcome: { case: "score" as const, value: {} } })) };
          await sleep(10);
        }
      },
    },
  );
  for await (const _ of client.scoreEach([{ text: "1" }, { text: "2" }])) {
    break;
  }
  await end;
});

test("the time of a call is that of its slowest item, and a little", async (t) => {
  const { client } = await connected(t, { timeoutMs: 1 });
  await assert.rejects(client.score([{ text: "never" }], { timeoutMs: 1 }), failure("DEADLINE_EXCEEDED"));
});

test("a token is sent, to this machine or encrypted", async (t) => {
  const { server, client } = await connected(t, { token: "secret" });
  await client.listModels();
  assert.deepEqual(server.authorizations, ["Bearer secret"]);
  assert.throws(() => new RewardClient({ baseUrl: "http://rewards.test", token: "secret" }), { field: "token" });
  new RewardClient({ baseUrl: "https://rewards.test", token: "secret" });
  new RewardClient({ baseUrl: "http://rewards.test", token: "secret", insecure: true });
});

test("options that cannot be are refused by name", () => {
  const baseUrl = "http://127.0.0.1:1";
  const refused: [string, object][] = [
    ["baseUrl", { baseUrl: "127.0.0.1:8000" }],
    ["baseUrl", { baseUrl: "http://user:word@127.0.0.1" }],
    ["format", { baseUrl, format: "text" }],
    ["timeoutMs", { baseUrl, timeoutMs: -1 }],
    ["options.activation", { baseUrl, options: { activation: "tanh" } }],
  ];
  for (const [field, options] of refused) {
    assert.throws(() => new RewardClient(options as ClientOptions), { code: "INVALID_ARGUMENT", field });
  }
});

test("it is made for browsers: no module of Node is in it", () => {
  const bundle = { stdin: { contents: 'export * from "rm-grpc-client/browser"', resolveDir: "." }, write: false } as const;
  buildSync({ ...bundle, bundle: true, platform: "browser", format: "esm", logLevel: "silent" });
});
