import { setTimeout as sleep } from "node:timers/promises";

import { type Client, ConnectError } from "@connectrpc/connect";

import { errorOfCall } from "../failures.js";
import { Condition } from "../condition.js";
import { type Code, RewardError } from "../errors.js";
import type { RewardService, ScoreBatchRequest } from "../gen/rm_grpc/v1/reward_service_pb.js";
import { SubmissionOrder } from "../ordering.js";
import type { Session } from "../session.js";
import type { Item, ModelInfo, Result } from "../types.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
/** Ends of a call after which another may go well. A cancelled one, when nobody here did, is a server or a proxy that goes. */
const LOSSES: ReadonlySet<Code> = new Set<Code>(["UNAVAILABLE", "CANCELLED"]);
/** For the call to end by itself, once all results are given. */
const LINGER_MS = 1000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What a stream works with. */
export interface StreamParts {
  readonly session: Session;
  readonly service: Client<typeof RewardService>;
  readonly address: string;
  /** How long a lost server is tried. */
  readonly reconnectMs: number;
  /** Whether results are given in the order of submission. */
  readonly inOrder: boolean;
  /** Ends the stream. */
  readonly signal: AbortSignal;
}

/**
 * A stream of items to the server and of results back, over as many connections as it takes.
 *
 * Send and read at the same time: what is sent and not yet read is bounded, and `send` waits. Leaving a loop over the results
 * closes the stream.
 */
export class ScoreStream implements AsyncIterable<Result>, AsyncDisposable {
  readonly #session: Session;
  readonly #service: Client<typeof RewardService>;
  readonly #address: string;
  readonly #reconnectMs: number;
  readonly #over = new AbortController();
  readonly #changed = new Condition();
  readonly #driver: Promise<void>;
  readonly #order: SubmissionOrder | undefined;
  #results: Result[] = [];
  #turn: Promise<unknown> = Promise.resolve();
  #lostAt: number | undefined;
  #lastError: RewardError | undefined;
  #timer: { readonly at: number; readonly handle: NodeJS.Timeout } | undefined;

  /** @internal Use `RewardClient.openStream`. */
  constructor({ session, service, address, reconnectMs, inOrder, signal }: StreamParts) {
    this.#session = session;
    this.#service = service;
    this.#address = address;
    this.#reconnectMs = reconnectMs;
    this.#order = inOrder ? new SubmissionOrder() : undefined;
    const abort = (): void => this.close(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) {
      abort();
    }
    this.#driver = this.#drive()
      .catch((error: unknown) => this.close(error))
      .finally(() => signal.removeEventListener("abort", abort)); // the signal may outlive many streams
  }

  /** The model that scores, once the server has told it. */
  get model(): ModelInfo | undefined {
    return this.#session.modelInfo;
  }

  /**
   * Sends an item, and gives its position on the stream once there is room for it. An item that cannot be sent is no failure here:
   * its result says what is wrong.
   *
   * @throws what the stream failed with.
   */
  send(item: Item): Promise<number> {
    const sent = this.#turn.then(() => this.#take(item));
    this.#turn = sent.catch(() => {});
    return sent;
  }

  /** Says that no more items come, after those that `send` was called with. */
  finish(): void {
    void this.#turn.then(() => {
      this.#session.end();
      this.#moved();
    });
  }

  /** Takes back every item of that id which has no result: it is CANCELLED, unless the server has scored it already. */
  cancel(id: string): void {
    this.#session.withdraw(id);
    this.#moved();
  }

  /** Ends the stream now; whoever reads or sends gets the reason. Items without a result are forgotten. */
  close(reason: unknown = new RewardError("CANCELLED", "the stream was closed")): void {
    if (!this.#over.signal.aborted) {
      this.#over.abort(reason);
      this.#moved();
    }
  }

  /**
   * The next result, or undefined after the last.
   *
   * @throws what the stream as a whole failed with, each time.
   */
  async read(): Promise<Result | undefined> {
    let result: Result | undefined;
    while ((result = this.#results.shift()) === undefined) {
      this.#over.signal.throwIfAborted();
      if (this.#session.isFinished) {
        await Promise.race([this.#driver, sleep(LINGER_MS, undefined, { ref: false })]);
        return undefined;
      }
      await this.#changed.wait();
    }
    this.#changed.notify();
    return result;
  }

  /** Results as they are ready, until all are given. */
  [Symbol.asyncIterator](): AsyncIterator<Result, undefined> {
    return {
      next: async () => {
        const value = await this.read();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /** Closes the stream. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#driver;
  }

  async #take(item: Item): Promise<number> {
    while (this.#unread >= this.#session.window && !this.#over.signal.aborted) {
      await this.#changed.wait();
    }
    this.#over.signal.throwIfAborted();
    if (this.#session.hasEnded) {
      throw new RewardError("INVALID_ARGUMENT", "nothing can be sent after finish", { reason: "STREAM_PROTOCOL" });
    }
    const index = this.#session.take(item, performance.now());
    this.#moved();
    return index;
  }

  /** How many items were sent and their results not yet read. */
  get #unread(): number {
    return this.#session.owed + this.#results.length + (this.#order?.held ?? 0);
  }

  /** Keeps a connection for as long as results are owed. */
  async #drive(): Promise<void> {
    const { signal } = this.#over;
    let pause = FIRST_PAUSE_MS;
    while (!this.#session.isFinished && !signal.aborted) {
      if (this.#session.owed === 0) {
        this.#lostAt = undefined;
        await this.#changed.wait();
        continue;
      }
      await this.#connect();
      if (this.#session.isFinished || signal.aborted) {
        break;
      }
      const now = performance.now();
      pause = this.#lostAt === undefined ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      this.#lostAt ??= now;
      if (now - this.#lostAt > this.#reconnectMs) {
        const told = `no server answered for ${this.#reconnectMs / 1000} s; last: ${this.#lastError?.message}`;
        throw new RewardError("UNAVAILABLE", told, { cause: this.#lastError });
      }
      await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }

  /** One connection to its end. Throws what sending again cannot mend. */
  async #connect(): Promise<void> {
    const call = new AbortController();
    const signal = AbortSignal.any([call.signal, this.#over.signal]);
    const opening = this.#session.opening(); // at once: what was in flight is so no longer, whether or not a server is reached
    this.#moved();
    try {
      for await (const response of this.#service.scoreBatch(this.#requests(opening, signal), { signal })) {
        this.#lostAt = undefined;
        this.#session.receive(response, performance.now());
        this.#moved();
      }
      // A server's death can look like the end of its answers.
      this.#lastError = new RewardError("UNAVAILABLE", "the stream ended before every item was answered");
    } catch (error) {
      if (!(error instanceof ConnectError)) {
        throw error;
      }
      this.#lastError = errorOfCall(error, this.#address);
      if (!LOSSES.has(this.#lastError.code) && !this.#session.isFinished && !this.#over.signal.aborted) {
        throw this.#lastError;
      }
    } finally {
      call.abort();
      this.#changed.notify();
    }
  }

  async *#requests(opening: ScoreBatchRequest, signal: AbortSignal): AsyncGenerator<ScoreBatchRequest, void, undefined> {
    yield opening;
    while (!this.#session.isFinished && !signal.aborted) {
      const message = this.#session.nextMessage(performance.now());
      this.#deliver();
      if (message === undefined) {
        await this.#changed.wait();
      } else {
        yield message;
      }
    }
  }

  /** Passes on what has changed: results to the reader, room to the sender, work to the connection, times to the timer. */
  #moved(): void {
    this.#deliver();
    this.#setTimer();
    this.#changed.notify();
  }

  #deliver(): void {
    const settled = this.#session.takeSettled();
    if (settled.length > 0) {
      this.#results.push(...(this.#order?.take(settled) ?? settled));
      this.#changed.notify();
    }
  }

  #setTimer(): void {
    const at = this.#over.signal.aborted || this.#session.isFinished ? undefined : this.#session.nextWakeup();
    if (at === this.#timer?.at) {
      return;
    }
    clearTimeout(this.#timer?.handle);
    this.#timer = undefined;
    if (at !== undefined) {
      const delay = Math.min(Math.max(0, at - performance.now()), LONGEST_TIMER_MS);
      this.#timer = { at, handle: setTimeout(() => this.#expire(), Math.ceil(delay)) };
    }
  }

  #expire(): void {
    this.#timer = undefined;
    this.#session.expire(performance.now());
    this.#moved();
  }
}
