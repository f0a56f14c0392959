import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { DRAINING, OVERLOADED, REFUSED, UNAVAILABLE, draining, opened, results } from "./responses.js";
import { milliseconds } from "../src/durations.js";
import { ScoreBatchResponseSchema } from "../src/gen/rm_grpc/v1/reward_service_pb.js";
import { Session, type SessionSettings } from "../src/session.js";
import type { Item, Result } from "../src/types.js";

const X: Item = { text: "x" };

function newSession(settings: Partial<SessionSettings> = {}): Session {
  const session = new Session({
    model: "m",
    options: {},
    ordering: undefined,
    timeoutMs: Infinity,
    reconnectMs: 60_000,
    attempts: 3,
    maxMessageBytes: 10_000,
    ...settings,
  });
  session.opening();
  session.receive(opened(), 0);
  return session;
}

function take(session: Session, count: number): void {
  for (let at = 0; at < count; at += 1) {
    session.take(X, 0);
  }
}

/** Everything that may be sent now: for each message the ids in it. */
function messages(session: Session, now = 0): string[][] {
  const sent: string[][] = [];
  for (let request = session.nextMessage(now); request !== undefined; request = session.nextMessage(now)) {
    const { message } = request;
    if (message.case === "items") {
      sent.push(message.value.items.map((item) => item.id));
    } else if (message.case === "cancel") {
      sent.push(message.value.ids.map((id) => `cancel ${id}`));
    }
  }
  return sent;
}

function sent(session: Session, now = 0): string[] {
  return messages(session, now).flat();
}

/** Results as text, which is easy to compare. */
function settled(session: Session): string[] {
  return session.takeSettled().map(({ id, score, error }) => `${id}: ${score === undefined ? error.reason : score.score}`);
}

function reopen(session: Session): void {
  session.opening();
  assert.deepEqual(sent(session), [], "nothing is sent before the server has told its limits");
  session.receive(opened(), 0);
}

test("the first message opens the stream, and nothing follows until it is open", () => {
  const session = new Session({
    model: "m",
    options: { activation: "sigmoid" },
    ordering: "submission",
    timeoutMs: Infinity,
    reconnectMs: 0,
    attempts: 1,
    maxMessageBytes: 10_000,
  });
  const { message } = session.opening();
  assert(message.case === "open");
  assert.deepEqual([message.value.model, message.value.options?.activation, message.value.ordering], ["m", 2, 2]);
  session.take(X, 0);
  assert.deepEqual(sent(session), []);
  session.receive(opened(), 0);
  assert.deepEqual(sent(session), ["0"]);
  assert.equal(session.modelInfo?.name, "m");
});

test("items share messages of up to 32, and keep their callers' ids", () => {
  const session = newSession();
  for (let at = 0; at < 70; at += 1) {
    session.take({ id: "mine", text: "x" }, 0);
  }
  assert.deepEqual(
    messages(session).map((ids) => ids.length),
    [32, 32, 6],
  );
  session.receive(results(["5", 1]), 0);
  const [result] = session.takeSettled();
  assert.deepEqual([result?.id, result?.index, result?.score?.score], ["mine", 5, 1]);
});

test("messages stay below about a megabyte", () => {
  const session = newSession({ maxMessageBytes: 16_000_000 });
  session.receive(opened(100, 10 ** 9), 0);
  for (let at = 0; at < 5; at += 1) {
    session.take({ text: "x".repeat(400_000) }, 0);
  }
  assert.deepEqual(messages(session), [["0", "1"], ["2", "3"], ["4"]]);
});

test("the window is kept in items", () => {
  const session = newSession();
  session.receive(opened(3), 0);
  take(session, 5);
  assert.deepEqual(sent(session), ["0", "1", "2"]);
  assert.deepEqual([session.owed, session.window], [5, 3]);
  session.receive(results(["1", 1]), 0);
  assert.deepEqual(sent(session), ["3"]);
});

test("the window is kept in bytes, and one item may always be in flight", () => {
  const session = newSession();
  session.receive(opened(100, 1), 0);
  take(session, 2);
  assert.deepEqual(sent(session), ["0"]);
  session.receive(results(["0", 1]), 0);
  assert.deepEqual(sent(session), ["1"]);
});

test("a window that grows lets more be sent", () => {
  const session = newSession();
  session.receive(opened(1), 0);
  take(session, 2);
  assert.deepEqual(sent(session), ["0"]);
  session.receive(create(ScoreBatchResponseSchema, { message: { case: "window", value: { items: 2, bytes: 1000n } } }), 0);
  assert.deepEqual(sent(session), ["1"]);
});

test("an item above the server's limit is an error of its own", () => {
  const session = newSession();
  session.receive(opened(9, 1_000_000, 4000), 0);
  for (const length of [1, 4000, 2000, 2000]) {
    session.take({ text: "x".repeat(length) }, 0);
  }
  assert.deepEqual(messages(session), [["0", "2"], ["3"]]);
  assert.deepEqual(settled(session), ["1: MESSAGE_TOO_LARGE"]);
});

test("a server that reads larger messages than are sent does not change what is sent", () => {
  const session = newSession({ maxMessageBytes: 4000 });
  session.receive(opened(9, 1_000_000, 1_000_000), 0);
  session.take({ text: "x".repeat(4000) }, 0);
  assert.deepEqual(sent(session), []);
  assert.deepEqual(settled(session), ["0: MESSAGE_TOO_LARGE"]);
});

test("what was unanswered is sent again, in order, before what is new", () => {
  const session = newSession();
  take(session, 4);
  assert.deepEqual(sent(session), ["0", "1", "2", "3"]);
  session.receive(results(["1", 1]), 0);
  session.take(X, 0);
  reopen(session);
  assert.deepEqual(sent(session), ["0", "2", "3", "4"]);
  assert.deepEqual(settled(session), ["1: 1"]);
  session.receive(results(["1", 2], ["stranger", 3]), 0);
  assert.deepEqual(settled(session), [], "a second answer is no second result");
});

test("an item that takes the server down is given up", () => {
  const session = newSession({ attempts: 3 });
  session.take(X, 0);
  for (let time = 0; time < 3; time += 1) {
    assert.deepEqual(sent(session), ["0"]);
    reopen(session);
  }
  assert.deepEqual(settled(session), ["0: UNAVAILABLE"]);
  assert.equal(session.owed, 0);
});

test("a full server is asked again, later each time, until the attempts are used up", () => {
  const session = newSession({ attempts: 3 });
  session.take(X, 0);
  assert.deepEqual(sent(session), ["0"]);
  session.receive(results(["0", OVERLOADED]), 10_000);
  assert.equal(session.nextWakeup(), 11_000);
  assert.deepEqual(sent(session, 10_900), []);
  assert.deepEqual(sent(session, 11_000), ["0"]);
  session.receive(results(["0", OVERLOADED]), 11_000);
  assert.deepEqual(sent(session, 12_999), []);
  assert.deepEqual(sent(session, 13_000), ["0"]);
  assert.deepEqual(settled(session), []);
  session.receive(results(["0", OVERLOADED]), 13_000);
  const [result] = session.takeSettled();
  assert.deepEqual([result?.error?.reason, result?.error?.retryDelayMs], ["OVERLOADED", 1000]);
});

test("a server that cannot score now is asked again for as long as a lost one, however often", () => {
  const session = newSession({ attempts: 1, reconnectMs: 3000 });
  session.take(X, 0);
  for (const now of [0, 1000, 2000]) {
    assert.deepEqual(sent(session, now), ["0"]);
    session.receive(results(["0", UNAVAILABLE]), now);
    assert.deepEqual(settled(session), []);
  }
  assert.deepEqual(sent(session, 3000), ["0"]);
  session.receive(results(["0", UNAVAILABLE]), 3000);
  assert.deepEqual(settled(session), ["0: UNAVAILABLE"]);
});

test("an outage counts anew when the last was a while ago", () => {
  const session = newSession({ reconnectMs: 3000 });
  session.take(X, 0);
  sent(session);
  session.receive(results(["0", UNAVAILABLE]), 0);
  assert.deepEqual(sent(session, 1000), ["0"]);
  session.receive(results(["0", UNAVAILABLE]), 6001);
  assert.deepEqual(settled(session), []);
  assert.deepEqual(sent(session, 7001), ["0"]);
});

test("where the deadline comes before the next attempt, the error is the result", () => {
  const session = newSession({ timeoutMs: 900 });
  session.take(X, 0);
  sent(session);
  session.receive(results(["0", OVERLOADED]), 0);
  assert.deepEqual(settled(session), ["0: OVERLOADED"]);
});

test("an error without a delay is a result at once", () => {
  const session = newSession();
  session.take(X, 0);
  sent(session);
  session.receive(results(["0", REFUSED]), 0);
  const [result] = session.takeSettled();
  assert.deepEqual([result?.error?.code, result?.error?.field], ["INVALID_ARGUMENT", "items[9].conversation"]);
});

test("a draining server gets nothing more, the next one does", () => {
  const session = newSession();
  session.take(X, 0);
  session.receive(draining(), 0);
  assert.deepEqual(sent(session), []);
  reopen(session);
  assert.deepEqual(sent(session), ["0"]);
});

test("an item that a draining server refuses goes to the next", () => {
  const session = newSession({ attempts: 1 });
  session.take(X, 0);
  sent(session);
  session.receive(results(["0", DRAINING]), 0);
  assert.deepEqual(sent(session), []);
  reopen(session);
  assert.deepEqual(sent(session), ["0"]);
  assert.deepEqual(settled(session), []);
});

test("each sending carries what is left of the time", () => {
  const session = newSession({ timeoutMs: 10_000 });
  session.take(X, 100_000);
  const request = session.nextMessage(104_000);
  assert(request?.message.case === "items");
  assert.equal(milliseconds(request.message.value.items[0]?.timeout), 6000);
});

test("an item that is late has the server's error, or ours 5 seconds later; its own timeout wins", () => {
  const session = newSession({ timeoutMs: 2000 });
  session.take(X, 0);
  session.take({ id: "b", text: "x", timeoutMs: 30_000 }, 0);
  assert.deepEqual(sent(session, 1000), ["0", "1"]);
  assert.equal(session.nextWakeup(), 7000);
  session.expire(6999);
  assert.deepEqual(settled(session), []);
  session.expire(7000);
  assert.deepEqual(settled(session), ["0: DEADLINE_EXCEEDED"]);
  assert.equal(session.nextWakeup(), 35_000);
  session.receive(results(["0", 1], ["1", 2]), 8000);
  assert.deepEqual(settled(session), ["b: 2"], "what the server says then is too late");
});

test("an item expires without a connection too, and then wakes nobody", () => {
  const session = newSession({ timeoutMs: 10_000 });
  session.take(X, 0);
  sent(session);
  session.receive(results(["0", OVERLOADED]), 0);
  session.opening();
  assert.equal(session.nextWakeup(), 1000);
  session.expire(1000);
  assert.equal(session.nextWakeup(), 15_000, "a retry that is due and cannot be sent does not wake again");
  session.expire(15_000);
  assert.deepEqual(settled(session), ["0: DEADLINE_EXCEEDED"]);
  assert.equal(session.nextWakeup(), undefined);
});

test("what is taken back is cancelled at once where no server has it, else by the server", () => {
  const session = newSession();
  session.receive(opened(1), 0);
  for (const id of ["a", "b", "a"]) {
    session.take({ id, text: "x" }, 0);
  }
  assert.deepEqual(sent(session), ["0"]);
  session.withdraw("a");
  session.withdraw("a");
  session.withdraw("nobody's");
  assert.deepEqual(settled(session), ["a: CANCELLED"]);
  assert.deepEqual(messages(session), [["cancel 0"]]);
  session.receive(results(["0", 1]), 0);
  assert.deepEqual(settled(session), ["a: 1"], "it was scored before it could be taken back");
  assert.deepEqual(sent(session), ["1"]);
});

test("what was taken back and then lost is cancelled", () => {
  const session = newSession();
  session.take(X, 0);
  sent(session);
  session.withdraw("0");
  reopen(session);
  assert.deepEqual(settled(session), ["0: CANCELLED"]);
  assert.deepEqual(sent(session), []);
});

test("what is taken back is not tried again", () => {
  const session = newSession();
  session.take(X, 0);
  sent(session);
  session.withdraw("0");
  session.receive(results(["0", OVERLOADED]), 0);
  assert.deepEqual(settled(session), ["0: OVERLOADED"]);
});

test("what cannot be sent is a result at once, and keeps its place in the numbering", () => {
  const session = newSession();
  session.take(3 as unknown as Item, 0);
  session.take(X, 0);
  assert.deepEqual(settled(session), ["0: INVALID_REQUEST"]);
  assert.deepEqual(sent(session), ["1"]);
});

test("unknown messages and outcomes are no failure", () => {
  const session = newSession();
  session.take(X, 0);
  sent(session);
  session.receive(create(ScoreBatchResponseSchema), 0);
  session.receive(create(ScoreBatchResponseSchema, { message: { case: "results", value: { results: [{ id: "0" }] } } }), 0);
  assert.deepEqual(settled(session), ["0: INTERNAL"]);
});

test("it is finished when no item comes and none is owed", () => {
  const session = newSession();
  session.take(X, 0);
  session.end();
  assert.equal(session.isFinished, false);
  sent(session);
  session.receive(results(["0", 1]), 0);
  assert.equal(session.isFinished, true);
});

/** A server that answers, refuses, repeats itself, loses connections and is slow, in any order. */
class AnyServer {
  readonly session = newSession({ timeoutMs: 50_000 });
  now = 0;
  taken = 0;
  inFlight: string[] = [];
  readonly got: Result[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  act(): void {
    const acts = [
      () => this.take(),
      () => this.send(),
      () => this.answer(),
      () => this.repeat(),
      () => this.reconnect(),
      () => this.wait(),
    ];
    acts[this.below(acts.length)]?.();
    this.got.push(...this.session.takeSettled());
    const indices = new Set(this.got.map(({ index }) => index));
    assert.equal(indices.size, this.got.length, "no item has two results");
  }

  finish(): void {
    this.reconnect(1000);
    for (let round = 0; round < 1000 && this.session.owed > 0; round += 1) {
      this.send();
      this.session.receive(results(...this.inFlight.map((id) => [id, 1] as const)), this.now);
      this.inFlight = [];
      this.wait(1000);
    }
    this.got.push(...this.session.takeSettled());
    const indices = this.got.map(({ index }) => index).sort((a, b) => a - b);
    assert.deepEqual(
      indices,
      Array.from({ length: this.taken }, (_, at) => at),
      "every item has a result",
    );
  }

  private below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  private take(): void {
    for (let count = this.below(40); count > 0 && this.session.owed < this.session.window; count -= 1) {
      this.session.take({ text: "x".repeat(this.taken % 50) }, this.now);
      this.taken += 1;
    }
  }

  private send(): void {
    const ids = sent(this.session, this.now);
    assert(!ids.some((id) => this.inFlight.includes(id)), "nothing is sent twice on one connection");
    this.inFlight.push(...ids);
  }

  private answer(): void {
    const [id] = this.inFlight.splice(this.below(this.inFlight.length), 1);
    const outcome = [1, REFUSED, OVERLOADED, DRAINING, UNAVAILABLE][this.below(5)];
    if (id !== undefined && outcome !== undefined) {
      this.session.receive(results([id, outcome]), this.now);
    }
  }

  private repeat(): void {
    const again = this.got[this.below(this.got.length)];
    if (again !== undefined) {
      this.session.receive(results([String(again.index), 2]), this.now);
    }
  }

  private reconnect(items = 1 + this.below(30)): void {
    this.inFlight = [];
    this.session.opening();
    this.session.receive(opened(items), this.now);
  }

  private wait(ms = this.below(30_000)): void {
    this.now += ms;
    this.session.expire(this.now);
  }
}

test("every item gets exactly one result, whatever the server does", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const server = new AnyServer(numbers(seed));
    for (let step = 0; step < 60; step += 1) {
      server.act();
    }
    server.finish();
  }
});

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
