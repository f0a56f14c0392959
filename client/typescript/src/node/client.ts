import { type Client, createClient } from "@connectrpc/connect";

import { type Connection, MAX_MESSAGE_BYTES, openConnection } from "./connection.js";
import { errorOfCall } from "../failures.js";
import { type ClientOptions, type ClientSettings, settingsOf } from "./settings.js";
import { ScoreStream } from "./stream.js";
import { modelInfoOf } from "../answers.js";
import { Batch } from "../batch.js";
import { RewardError } from "../errors.js";
import { RewardService } from "../gen/rm_grpc/v1/reward_service_pb.js";
import { encodeOptions } from "../options.js";
import { Session } from "../session.js";
import type { CallOptions, Item, ModelInfo, Result, TokenizeResult } from "../types.js";

/** Scores conversations with a reward service, over gRPC. Close it at the end. */
export class RewardClient implements Disposable {
  readonly #settings: ClientSettings;
  readonly #connection: Connection;
  readonly #service: Client<typeof RewardService>;
  readonly #closed = new AbortController();

  /**
   * Connects when it is first used.
   *
   * @throws RewardError - an option that cannot be, or a file that cannot be read; the field is the option's name.
   */
  constructor(options: ClientOptions = {}) {
    this.#settings = settingsOf(options);
    this.#connection = openConnection(this.#settings);
    this.#service = createClient(RewardService, this.#connection.transport);
  }

  /** The server's address. */
  get address(): string {
    return this.#settings.address.text;
  }

  /** Ends the connection; streams and calls in work fail as CANCELLED. */
  close(): void {
    this.#closed.abort(new RewardError("CANCELLED", "the client was closed"));
    this.#connection.close();
  }

  /** Closes the client. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Scores items as they come, and yields each result as it is ready.
   *
   * The items are taken while results are read, no further ahead than the server's window. Leaving the loop takes back what has no
   * result.
   *
   * @throws RewardError - the stream as a whole failed: no such model, no valid token, or no server for `reconnectMs`.
   */
  async *scoreStream(
    items: AsyncIterable<Item> | Iterable<Item>,
    options: CallOptions = {},
  ): AsyncGenerator<Result, void, undefined> {
    const stream = this.openStream(options);
    void feed(stream, items);
    yield* stream;
  }

  /**
   * Scores a list, in its order. Each item has its own score or error; look at `result.error`.
   *
   * @throws RewardError - the call as a whole failed.
   */
  async score(items: Iterable<Item>, options: CallOptions = {}): Promise<Result[]> {
    const results: Result[] = [];
    for await (const result of this.scoreStream(items, options)) {
      results[result.index] = result;
    }
    return results;
  }

  /** A stream that is yet to be fed, for callers that send as they go or take items back. It connects with the first item. */
  openStream({ signal, timeoutMs }: CallOptions = {}): ScoreStream {
    const { address, reconnectMs, timeoutMs: otherwise, ...settings } = this.#settings;
    const session = new Session({
      ...settings,
      reconnectMs,
      timeoutMs: timeoutMs ?? otherwise,
      maxMessageBytes: MAX_MESSAGE_BYTES,
    });
    return new ScoreStream({
      session,
      service: this.#service,
      address: address.text,
      reconnectMs,
      inOrder: settings.ordering === "submission",
      signal: this.#until(signal),
    });
  }

  /** The models that the server serves. */
  async listModels(options: CallOptions = {}): Promise<ModelInfo[]> {
    const { models } = await this.#call(options, (call) => this.#service.listModels({}, call));
    return models.map(modelInfoOf);
  }

  /** One model; by default the client's. */
  async getModel(name = this.#settings.model, options: CallOptions = {}): Promise<ModelInfo> {
    const { model } = await this.#call(options, (call) => this.#service.getModel({ name }, call));
    if (model === undefined) {
      throw new RewardError("INTERNAL", "the server answered without a model");
    }
    return modelInfoOf(model);
  }

  /** What the model would read for each item, and the error that scoring it would give. */
  async tokenize(items: Iterable<Item>, options: CallOptions = {}): Promise<TokenizeResult[]> {
    const batch = new Batch(items, Infinity);
    if (batch.owed === 0) {
      return batch.tokenizations([]);
    }
    const request = { model: this.#settings.model, options: encodeOptions(this.#settings.options), items: batch.messages };
    const { results } = await this.#call(options, (call) => this.#service.tokenize(request, call));
    return batch.tokenizations(results);
  }

  async #call<T>(
    { signal, timeoutMs = this.#settings.timeoutMs }: CallOptions,
    make: (call: { signal: AbortSignal; timeoutMs?: number }) => Promise<T>,
  ): Promise<T> {
    const until = this.#until(signal);
    until.throwIfAborted();
    try {
      return await make(timeoutMs === Infinity ? { signal: until } : { signal: until, timeoutMs });
    } catch (error) {
      until.throwIfAborted();
      throw errorOfCall(error, this.address);
    }
  }

  #until(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#closed.signal : AbortSignal.any([this.#closed.signal, signal]);
  }
}

async function feed(stream: ScoreStream, items: AsyncIterable<Item> | Iterable<Item>): Promise<void> {
  try {
    for await (const item of items) {
      await stream.send(item);
    }
    stream.finish();
  } catch (error) {
    // What the caller's iterable threw, to whom reads; or the end of the stream, which the reader has met.
    stream.close(error);
  }
}
