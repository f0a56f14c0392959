import { create } from "@bufbuild/protobuf";

import { modelInfoOf, resultOf } from "./answers.js";
import { duration } from "./durations.js";
import { RewardError } from "./errors.js";
import type { Item as ItemMessage } from "./gen/rm_grpc/v1/conversation_pb.js";
import {
  type ScoreBatchRequest,
  ScoreBatchRequestSchema,
  type ScoreBatchResponse,
  type Window,
} from "./gen/rm_grpc/v1/reward_service_pb.js";
import type { ItemResult } from "./gen/rm_grpc/v1/score_pb.js";
import { prepareItem } from "./items.js";
import { encodeOptions, encodeOrdering } from "./options.js";
import type { Item, ModelInfo, Ordering, Result, ScoreOptions } from "./types.js";

const MESSAGE_ITEMS = 32;
const MESSAGE_BYTES = 1_000_000;
/** Items taken from the caller before the server has told its window. */
const FIRST_WINDOW = 256;
/** Bytes kept free in a message, for what stands around its items. */
const MESSAGE_OVERHEAD = 1024;
/** Past an item's deadline, or past a delay: how long the server's own answer is still awaited. */
const GRACE_MS = 5000;

/** What a session is made of. */
export interface SessionSettings {
  readonly model: string;
  readonly options: ScoreOptions;
  readonly ordering: Ordering | undefined;
  /** How long each item may take, from when it is taken from the caller; Infinity waits for ever. */
  readonly timeoutMs: number;
  /** How long an item that the server cannot score now is tried. */
  readonly reconnectMs: number;
  /** How often an item is tried that the server has no room for, or is lost with. */
  readonly attempts: number;
  /** Largest message that is sent, also where the server reads larger ones. */
  readonly maxMessageBytes: number;
}

interface Owed {
  readonly index: number;
  readonly id: string;
  readonly message: ItemMessage;
  readonly bytes: number;
  readonly deadline: number;
  inFlight: boolean;
  withdrawn: boolean;
  attempts: number;
  /** How often the connection was lost while a server had it. */
  losses: number;
  /** When a server first said, in this outage, that it cannot score it now; and until when the outage lasts unless one says so again. */
  outage: { readonly since: number; readonly until: number } | undefined;
}

interface Retry {
  readonly at: number;
  readonly owed: Owed;
}

/**
 * What one stream still owes its caller, over any number of connections. Pure: no I/O, and the caller brings the clock, in
 * milliseconds.
 *
 * A shell feeds it items and responses. It says what to send next, and which results are final. After a lost connection
 * everything unanswered is sent again, so that each item gets exactly one result whatever happens between.
 */
export class Session {
  readonly #settings: SessionSettings;
  readonly #owed = new Map<string, Owed>();
  #unsent: Owed[] = [];
  /** By time, the next one first. */
  #retries: Retry[] = [];
  #settled: Result[] = [];
  #cancels: string[] = [];
  #taken = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  #windowItems = FIRST_WINDOW;
  #windowBytes = 0;
  #maxMessageBytes: number;
  /** No deadline of an item that is owed is before it. */
  #earliestDeadline = Infinity;
  #ended = false;
  #opened = false;
  #draining = false;
  #modelInfo: ModelInfo | undefined;

  constructor(settings: SessionSettings) {
    this.#settings = settings;
    this.#maxMessageBytes = settings.maxMessageBytes;
  }

  /** How many items may be on their way at once. */
  get window(): number {
    return this.#windowItems;
  }

  /** How many items have no result yet. */
  get owed(): number {
    return this.#owed.size;
  }

  /** Whether no result is owed and no item will come. */
  get isFinished(): boolean {
    return this.#ended && this.#owed.size === 0;
  }

  /** Whether the caller has said that no more items come. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  /** The model that scores, once a server has told it. */
  get modelInfo(): ModelInfo | undefined {
    return this.#modelInfo;
  }

  // --- from the caller

  /** Takes an item and gives its position. One that cannot be sent has its result at once, whatever the caller gave. */
  take(item: Item, now: number): number {
    const index = this.#taken++;
    const prepared = prepareItem(item, index, this.#settings.timeoutMs);
    if (prepared.error !== undefined) {
      this.#settled.push(prepared);
      return index;
    }
    const { id, message, bytes, timeoutMs } = prepared;
    const owed: Owed = {
      index,
      id,
      message,
      bytes,
      deadline: now + timeoutMs,
      inFlight: false,
      withdrawn: false,
      attempts: 0,
      losses: 0,
      outage: undefined,
    };
    this.#owed.set(message.id, owed);
    this.#unsent.push(owed);
    this.#earliestDeadline = Math.min(this.#earliestDeadline, owed.deadline);
    return index;
  }

  /** No more items come. */
  end(): void {
    this.#ended = true;
  }

  /** Takes back every item of that id that has no result. Those that no server has are settled at once, the others by the server. */
  withdraw(id: string): void {
    for (const owed of this.#owed.values()) {
      if (owed.id !== id || owed.withdrawn) {
        continue;
      }
      owed.withdrawn = true;
      if (owed.inFlight) {
        this.#cancels.push(owed.message.id);
      } else {
        this.#fail(owed, takenBack());
      }
    }
    this.#forget();
  }

  // --- to the server

  /** The first message of a connection. What was in flight on the one before will be sent again. */
  opening(): ScoreBatchRequest {
    const again: Owed[] = [];
    for (const owed of this.#owed.values()) {
      if (!owed.inFlight) {
        continue;
      }
      this.#land(owed);
      owed.losses += 1;
      if (owed.withdrawn) {
        this.#fail(owed, takenBack());
      } else if (owed.losses >= this.#settings.attempts) {
        this.#fail(owed, new RewardError("UNAVAILABLE", `the server was lost ${owed.losses} times with this item`));
      } else {
        again.push(owed);
      }
    }
    this.#unsent = [...again, ...this.#unsent];
    this.#cancels = [];
    this.#opened = this.#draining = false;
    const { model, options, ordering } = this.#settings;
    return create(ScoreBatchRequestSchema, {
      message: {
        case: "open",
        value: { model, options: encodeOptions(options), ordering: encodeOrdering(ordering) },
      },
    });
  }

  /** What may be sent now: ids of items that are taken back, or items. Nothing waits for a message to fill. */
  nextMessage(now: number): ScoreBatchRequest | undefined {
    this.#releaseRetries(now);
    if (!this.#opened || this.#draining) {
      return undefined;
    }
    if (this.#cancels.length > 0) {
      const ids = this.#cancels;
      this.#cancels = [];
      return create(ScoreBatchRequestSchema, { message: { case: "cancel", value: { ids } } });
    }
    const items = this.#nextItems(now);
    return items.length === 0 ? undefined : create(ScoreBatchRequestSchema, { message: { case: "items", value: { items } } });
  }

  /** When time alone will change something: a retry is due, or an item's deadline has passed. */
  nextWakeup(): number | undefined {
    const next = Math.min(this.#retries[0]?.at ?? Infinity, this.#earliestDeadline + GRACE_MS);
    return next === Infinity ? undefined : next;
  }

  // --- from the server

  /** Takes in a message of the server. Kinds of messages that this client does not know are skipped. */
  receive({ message }: ScoreBatchResponse, now: number): void {
    switch (message.case) {
      case "opened": {
        const { model, window } = message.value;
        if (model !== undefined) {
          this.#modelInfo = modelInfoOf(model);
          const told = this.#modelInfo.limits.maxMessageBytes || Infinity;
          this.#maxMessageBytes = Math.min(told, this.#settings.maxMessageBytes);
        }
        this.#opened = true;
        this.#setWindow(window);
        break;
      }
      case "results":
        for (const result of message.value.results) {
          this.#settle(result, now);
        }
        break;
      case "window":
        this.#setWindow(message.value);
        break;
      case "draining":
        this.#draining = true;
        break;
    }
  }

  /** Settles what time alone settles, so that a server that hangs costs no more than an item's timeout. */
  expire(now: number): void {
    this.#releaseRetries(now);
    if (now < this.#earliestDeadline + GRACE_MS) {
      return;
    }
    this.#earliestDeadline = Infinity;
    for (const owed of this.#owed.values()) {
      if (now >= owed.deadline + GRACE_MS) {
        this.#fail(owed, new RewardError("DEADLINE_EXCEEDED", "the item's time ran out without an answer of the server"));
      } else {
        this.#earliestDeadline = Math.min(this.#earliestDeadline, owed.deadline);
      }
    }
    this.#forget();
  }

  /** The results since the last call. */
  takeSettled(): Result[] {
    const settled = this.#settled;
    this.#settled = [];
    return settled;
  }

  #nextItems(now: number): ItemMessage[] {
    const items: ItemMessage[] = [];
    const largest = this.#maxMessageBytes - MESSAGE_OVERHEAD;
    const limit = Math.min(MESSAGE_BYTES, largest);
    let bytes = 0;
    let owed: Owed | undefined;
    while (items.length < MESSAGE_ITEMS && (owed = this.#unsent[0]) !== undefined) {
      if (owed.bytes > largest) {
        this.#unsent.shift();
        const told = `the item has ${owed.bytes} bytes, and a message at most ${this.#maxMessageBytes}`;
        this.#fail(owed, new RewardError("RESOURCE_EXHAUSTED", told, { reason: "MESSAGE_TOO_LARGE" }));
        continue;
      }
      const noRoom =
        this.#inFlight >= this.#windowItems ||
        (this.#inFlight > 0 && this.#inFlightBytes + owed.bytes > this.#windowBytes) ||
        (items.length > 0 && bytes + owed.bytes > limit);
      if (noRoom) {
        break;
      }
      this.#unsent.shift();
      if (owed.deadline !== Infinity) {
        owed.message.timeout = duration(Math.max(0, owed.deadline - now));
      }
      owed.inFlight = true;
      this.#inFlight += 1;
      this.#inFlightBytes += owed.bytes;
      bytes += owed.bytes;
      items.push(owed.message);
    }
    return items;
  }

  #setWindow(window: Window | undefined): void {
    this.#windowItems = window?.items || FIRST_WINDOW;
    this.#windowBytes = Number(window?.bytes || Infinity);
  }

  #settle(message: ItemResult, now: number): void {
    const owed = this.#owed.get(message.id);
    if (owed === undefined || !owed.inFlight) {
      return; // answered before, or expired here
    }
    this.#land(owed);
    const result = resultOf(message, owed.id, owed.index);
    if (result.error !== undefined && this.#willRetry(owed, result.error, now)) {
      return;
    }
    this.#owed.delete(message.id);
    this.#settled.push(result);
  }

  #willRetry(owed: Owed, error: RewardError, now: number): boolean {
    const { retryDelayMs } = error;
    if (retryDelayMs === undefined || owed.withdrawn) {
      return false;
    }
    if (error.reason === "DRAINING") {
      this.#unsent.push(owed);
      this.#draining = true;
      return true;
    }
    const { attempts, reconnectMs } = this.#settings;
    let at: number;
    let isOver: boolean;
    if (error.code === "UNAVAILABLE") {
      // The server is there, and what scores is not: it comes back, or another server is no better off.
      const since = owed.outage !== undefined && now <= owed.outage.until ? owed.outage.since : now;
      at = now + retryDelayMs;
      owed.outage = { since, until: at + GRACE_MS };
      isOver = now - since >= reconnectMs;
    } else {
      owed.attempts += 1;
      at = now + retryDelayMs * owed.attempts;
      isOver = owed.attempts >= attempts;
    }
    if (isOver || at >= owed.deadline) {
      return false;
    }
    const place = this.#retries.findIndex((retry) => retry.at > at);
    this.#retries.splice(place === -1 ? this.#retries.length : place, 0, { at, owed });
    return true;
  }

  #releaseRetries(now: number): void {
    let retry: Retry | undefined;
    while ((retry = this.#retries[0]) !== undefined && retry.at <= now) {
      this.#retries.shift();
      this.#unsent.push(retry.owed);
    }
  }

  /** Drops what has a result from the queues to the server. */
  #forget(): void {
    this.#unsent = this.#unsent.filter((owed) => this.#owed.has(owed.message.id));
    this.#retries = this.#retries.filter(({ owed }) => this.#owed.has(owed.message.id));
  }

  #land(owed: Owed): void {
    owed.inFlight = false;
    this.#inFlight -= 1;
    this.#inFlightBytes -= owed.bytes;
  }

  #fail(owed: Owed, error: RewardError): void {
    this.#owed.delete(owed.message.id);
    if (owed.inFlight) {
      this.#land(owed);
    }
    this.#settled.push({ id: owed.id, index: owed.index, error });
  }
}

function takenBack(): RewardError {
  return new RewardError("CANCELLED", "taken back by the caller");
}
