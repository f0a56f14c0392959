import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { opened, results } from "./responses.js";
import { type TestServer, serve } from "./server.js";
import { RewardClient, RewardError } from "../src/node/index.js";
import type { ClientOptions, Item, Result } from "../src/node/index.js";

async function connected(
  t: TestContext,
  options: ClientOptions = {},
  changed: Parameters<typeof serve>[1] = {},
): Promise<{ server: TestServer; client: RewardClient }> {
  const server = await serve("grpc", changed);
  const client = new RewardClient({ address: server.address, ...options });
  t.after(async () => {
    client.close();
    await server.close();
  });
  return { server, client };
}

function texts(...all: string[]): Item[] {
  return all.map((text) => ({ text }));
}

async function readAll(results: AsyncIterable<Result>): Promise<(number | string)[]> {
  const read: (number | string)[] = [];
  for await (const { score, error } of results) {
    read.push(score === undefined ? error.reason : score.score);
  }
  return read;
}

function failure(reason: string): (error: unknown) => boolean {
  return (error) => error instanceof RewardError && error.reason === reason;
}

test("results come as they are ready, errors among them", async (t) => {
  const { client } = await connected(t);
  assert.deepEqual(await readAll(client.scoreStream(texts("wait", "1", "refuse", "2"))), [1, "NO_RESPONSE", 2, 0]);
});

test("results come while the items are still being made", async (t) => {
  const { client } = await connected(t);
  const stream = client.openStream();
  assert.equal(await stream.send({ id: "a", text: "1" }), 0);
  assert.equal((await stream.read())?.id, "a");
  assert.equal(stream.model?.name, "m");
  assert.equal(await stream.send({ id: "b", text: "2" }), 1);
  assert.equal((await stream.read())?.score?.score, 2);
  stream.finish();
  assert.equal(await stream.read(), undefined);
  await assert.rejects(stream.send({ text: "3" }), failure("STREAM_PROTOCOL"));
});

test("a list is scored in its order", async (t) => {
  const { client } = await connected(t);
  const scored = await client.score(texts("wait", "1", "refuse"));
  assert.deepEqual(
    scored.map(({ index, score, error }) => [index, score?.score ?? error?.field]),
    [
      [0, 0],
      [1, 1],
      [2, "items[9].conversation"],
    ],
  );
  assert.deepEqual(await client.score([]), []);
});

test("submission order is kept, also of what was never sent", async (t) => {
  const { client } = await connected(t, { ordering: "submission" });
  const error = new RewardError("INVALID_ARGUMENT", "no item");
  assert.deepEqual(await readAll(client.scoreStream([{ text: "wait" }, { error }, { text: "1" }])), [0, "INVALID_REQUEST", 1]);
});

test("sending waits for a reader, within the window", async (t) => {
  const { client } = await connected(t, {}, { scoreBatch: scoring(4) });
  const stream = client.openStream();
  let sent = 0;
  const sending = (async () => {
    for (let at = 0; at < 300; at += 1) {
      await stream.send({ text: "1" });
      sent += 1;
    }
    stream.finish();
  })();
  await sleep(300);
  assert(sent < 300, `${sent} items were taken and none was read`);
  assert.equal((await readAll(stream)).length, 300);
  await sending;
});

test("what was lost with a connection is sent again", async (t) => {
  const { server, client } = await connected(t);
  const stream = client.openStream();
  await stream.send({ text: "1" });
  assert.equal((await stream.read())?.score?.score, 1);
  await stream.send({ text: "wait" });
  await sleep(50);
  server.breakConnections();
  assert.equal((await stream.read())?.score?.score, 0);
  stream.close();
});

test("a stream that ends well while results are owed goes on with the next", async (t) => {
  let calls = 0;
  const { client } = await connected(
    t,
    {},
    {
      async *scoreBatch(requests) {
        calls += 1;
        yield* calls < 3 ? [opened()] : scoring(100)(requests);
      },
    },
  );
  assert.deepEqual(await readAll(client.scoreStream(texts("1", "2"))), [1, 1]);
  assert.equal(calls, 3);
});

test("no server for so long is the stream's failure, at every read", async () => {
  const client = new RewardClient({ address: "127.0.0.1:1", reconnectMs: 100 });
  const stream = client.openStream();
  await stream.send({ text: "1" });
  for (let time = 0; time < 2; time += 1) {
    await assert.rejects(stream.read(), failure("UNAVAILABLE"));
  }
  await assert.rejects(stream.send({ text: "2" }), failure("UNAVAILABLE"));
  client.close();
});

test("a model that is not served is the stream's failure, with its details", async (t) => {
  const { client } = await connected(t, { model: "other" });
  const failed = await readAll(client.scoreStream(texts("1"))).catch((error: unknown) => error);
  assert(failed instanceof RewardError);
  assert.deepEqual(
    [failed.code, failed.reason, failed.field, failed.metadata],
    ["NOT_FOUND", "MODEL_NOT_FOUND", "model", { served: "m" }],
  );
});

test("items that are taken back are cancelled", async (t) => {
  const { client } = await connected(
    t,
    {},
    {
      async *scoreBatch(requests) {
        yield opened();
        for await (const { message } of requests) {
          if (message.case === "cancel") {
            yield results(...message.value.ids.map((id) => [id, { code: 1, reason: "CANCELLED" }] as const));
          }
        }
      },
    },
  );
  const stream = client.openStream();
  await stream.send({ id: "a", text: "1" });
  await sleep(100);
  stream.cancel("a");
  assert.equal((await stream.read())?.error?.code, "CANCELLED");
  stream.finish();
  assert.equal(await stream.read(), undefined);
});

test("what a lost server had is taken back without it", async () => {
  const server = await serve("grpc");
  const client = new RewardClient({ address: server.address });
  const stream = client.openStream();
  await stream.send({ id: "a", text: "never" });
  await sleep(100);
  await server.close();
  await sleep(300);
  stream.cancel("a");
  assert.equal((await stream.read())?.error?.code, "CANCELLED");
  client.close();
});

test("an item without an answer runs out of time", async (t) => {
  const { client } = await connected(t, { timeoutMs: 10 }, { scoreBatch: never });
  const [result] = await client.score(texts("1"));
  assert.equal(result?.error?.code, "DEADLINE_EXCEEDED");
});

test("a signal ends a stream with its reason", async (t) => {
  const { client } = await connected(t);
  const controller = new AbortController();
  const reading = readAll(client.scoreStream(texts("never"), { signal: controller.signal }));
  await sleep(50);
  controller.abort(new Error("enough"));
  await assert.rejects(reading, /enough/);
  await assert.rejects(client.score(texts("1"), { signal: AbortSignal.abort() }), { name: "AbortError" });
  await assert.rejects(client.listModels({ signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("leaving the loop ends the call, and asks for no more items", async (t) => {
  let ended = false;
  const { client } = await connected(t);
  async function* items(): AsyncGenerator<Item, void, undefined> {
    try {
      for (;;) {
        yield { text: "1" };
      }
    } finally {
      ended = true;
    }
  }
  for await (const { index } of client.scoreStream(items())) {
    if (index === 3) {
      break;
    }
  }
  await sleep(20);
  assert.equal(ended, true);
});

test("what the caller's items throw reaches the caller", async (t) => {
  const { client } = await connected(t);
  async function* items(): AsyncGenerator<Item, void, undefined> {
    yield { text: "1" };
    throw new Error("no more data");
  }
  await assert.rejects(readAll(client.scoreStream(items())), /no more data/);
});

test("closing the client ends what is in work", async (t) => {
  const { client } = await connected(t);
  const reading = readAll(client.scoreStream(texts("never")));
  await sleep(50);
  client.close();
  await assert.rejects(reading, failure("CANCELLED"));
});

test("models and tokens are told, and refused by their own errors", async (t) => {
  const { client } = await connected(t);
  assert.deepEqual(
    (await client.listModels()).map(({ name, limits }) => [name, limits.maxMessageBytes]),
    [["m", 1000]],
  );
  assert.equal((await client.getModel()).name, "m");
  await assert.rejects(client.getModel("other"), failure("MODEL_NOT_FOUND"));
  const told = await client.tokenize([
    { id: "a", text: "x" },
    { id: "b", text: "\ud800" },
  ]);
  assert.deepEqual(
    told.map(({ id, tokenization, error }) => [id, tokenization?.ids ?? error?.reason]),
    [
      ["a", [1, 2]],
      ["b", "INVALID_REQUEST"],
    ],
  );
});

test("a large item holds up no other call", async (t) => {
  const { client } = await connected(t, {}, { scoreBatch: never });
  const stream = client.openStream();
  await stream.send({ text: "x".repeat(15_000_000) });
  await sleep(100);
  assert.equal((await client.listModels()).length, 1);
  stream.close();
});

test("a token is sent with every call", async (t) => {
  const { server, client } = await connected(t, { token: "secret" });
  await client.listModels();
  await client.score(texts("1"));
  assert.deepEqual(server.authorizations, ["Bearer secret", "Bearer secret"]);
});

function scoring(window: number) {
  return async function* (requests: AsyncIterable<{ message: { case?: string | undefined; value?: unknown } }>) {
    yield opened(window);
    for await (const { message } of requests) {
      if (message.case === "items") {
        const { items } = message.value as { items: { id: string }[] };
        yield results(...items.map(({ id }) => [id, 1] as const));
      }
    }
  };
}

async function* never(requests: AsyncIterable<unknown>) {
  yield opened();
  for await (const _ of requests) {
    // Takes in whatever comes.
  }
}
