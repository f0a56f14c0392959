import { createRegistry } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { type ClientOptions, type ClientSettings, settingsOf } from "./settings.js";
import { modelInfoOf } from "../answers.js";
import { Batch } from "../batch.js";
import { RewardError } from "../errors.js";
import { errorOfCall } from "../failures.js";
import { file_google_rpc_error_details } from "../gen/google/rpc/error_details_pb.js";
import { RewardService } from "../gen/rm_grpc/v1/reward_service_pb.js";
import { encodeOptions } from "../options.js";
import { bearing } from "../token.js";
import type { CallOptions, Item, ModelInfo, Result, TokenizeResult } from "../types.js";

/** Past the time of the slowest item: how long the server's own answer is still awaited. */
const GRACE_MS = 5000;

interface Call {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/**
 * Scores conversations with a reward service, from a browser: over the Connect protocol on the server's HTTP port.
 *
 * Lists only, for browsers cannot send streams. A call is made once: errors with a retry delay are results like others.
 */
export class RewardClient {
  readonly #settings: ClientSettings;
  readonly #service: Client<typeof RewardService>;

  /** @throws RewardError - an option that cannot be; the field is the option's name. */
  constructor(options: ClientOptions) {
    const { baseUrl, format, token, fetch } = (this.#settings = settingsOf(options));
    const transport = createConnectTransport({
      baseUrl,
      useBinaryFormat: format === "binary",
      // JSON has the details of errors by the names of their types, which must be known to be read.
      jsonOptions: { registry: createRegistry(file_google_rpc_error_details), ignoreUnknownFields: true },
      interceptors: token === undefined ? [] : [bearing(token)],
      ...(fetch === undefined ? {} : { fetch }),
    });
    this.#service = createClient(RewardService, transport);
  }

  /** URL of the server's HTTP port. */
  get baseUrl(): string {
    return this.#settings.baseUrl;
  }

  /**
   * Scores a list, in its order. Each item has its own score or error; look at `result.error`.
   *
   * @throws RewardError - the call as a whole failed.
   */
  async score(items: Iterable<Item>, options: CallOptions = {}): Promise<Result[]> {
    const batch = this.#batch(items, options);
    const results = batch.refused();
    if (batch.owed > 0) {
      const request = this.#request(batch);
      const response = await this.#call(options.signal, () =>
        this.#service.score(request, callOf(options.signal, batch.timeoutMs)),
      );
      results.push(...batch.settle(response.results));
      checkComplete(batch);
    }
    return results.sort((one, other) => one.index - other.index);
  }

  /**
   * Scores a list, and yields each result as it is ready. Leaving the loop takes back what has no result.
   *
   * @throws RewardError - the call as a whole failed; results that came before it hold.
   */
  async *scoreEach(items: Iterable<Item>, options: CallOptions = {}): AsyncGenerator<Result, void, undefined> {
    const batch = this.#batch(items, options);
    yield* batch.refused();
    if (batch.owed === 0) {
      return;
    }
    const left = new AbortController();
    const signal = options.signal === undefined ? left.signal : AbortSignal.any([options.signal, left.signal]);
    const responses = this.#service.scoreEach(this.#request(batch), callOf(signal, batch.timeoutMs))[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await this.#call(options.signal, () => responses.next());
        if (done === true) {
          break;
        }
        yield* batch.settle(value.results);
      }
      checkComplete(batch);
    } finally {
      left.abort();
      await readToEnd(responses);
    }
  }

  /** The models that the server serves. */
  async listModels({ signal, timeoutMs = this.#settings.timeoutMs }: CallOptions = {}): Promise<ModelInfo[]> {
    const { models } = await this.#call(signal, () => this.#service.listModels({}, callOf(signal, timeoutMs)));
    return models.map(modelInfoOf);
  }

  /** One model; by default the client's. */
  async getModel(
    name = this.#settings.model,
    { signal, timeoutMs = this.#settings.timeoutMs }: CallOptions = {},
  ): Promise<ModelInfo> {
    const { model } = await this.#call(signal, () => this.#service.getModel({ name }, callOf(signal, timeoutMs)));
    if (model === undefined) {
      throw new RewardError("INTERNAL", "the server answered without a model");
    }
    return modelInfoOf(model);
  }

  /** What the model would read for each item, and the error that scoring it would give. */
  async tokenize(
    items: Iterable<Item>,
    { signal, timeoutMs = this.#settings.timeoutMs }: CallOptions = {},
  ): Promise<TokenizeResult[]> {
    const batch = new Batch(items, Infinity);
    if (batch.owed === 0) {
      return batch.tokenizations([]);
    }
    const request = this.#request(batch);
    const { results } = await this.#call(signal, () => this.#service.tokenize(request, callOf(signal, timeoutMs)));
    return batch.tokenizations(results);
  }

  #batch(items: Iterable<Item>, { timeoutMs }: CallOptions): Batch {
    return new Batch(items, timeoutMs ?? this.#settings.timeoutMs);
  }

  #request(batch: Batch) {
    const { model, options } = this.#settings;
    return { model, options: encodeOptions(options), items: batch.messages };
  }

  async #call<T>(signal: AbortSignal | undefined, make: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await make();
    } catch (error) {
      signal?.throwIfAborted();
      throw errorOfCall(error, this.baseUrl);
    }
  }
}

function callOf(signal: AbortSignal | undefined, itemTimeoutMs: number): Call {
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(itemTimeoutMs === Infinity ? {} : { timeoutMs: itemTimeoutMs + GRACE_MS }),
  };
}

/** Lets an aborted call notice that it is over, behind what it has received. Else the timer of its deadline would go on. */
async function readToEnd(responses: AsyncIterator<unknown>): Promise<void> {
  try {
    while ((await responses.next()).done !== true);
  } catch {
    // The abort.
  }
}

/** A server's death can look like the end of its answers. */
function checkComplete(batch: Batch): void {
  if (batch.owed > 0) {
    throw new RewardError("UNAVAILABLE", `the call ended and ${batch.owed} items have no result`);
  }
}
