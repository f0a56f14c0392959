import { resultOf, tokenizeResultOf } from "./answers.js";
import { RewardError } from "./errors.js";
import type { Item as ItemMessage } from "./gen/rm_grpc/v1/conversation_pb.js";
import type { TokenizeResult as TokenizeResultMessage } from "./gen/rm_grpc/v1/reward_service_pb.js";
import type { ItemResult } from "./gen/rm_grpc/v1/score_pb.js";
import { type PreparedItem, prepareItem } from "./items.js";
import type { Item, Result, TokenizeResult } from "./types.js";

/** A bounded list on its way through one call. Each item gets exactly one result, those that cannot be sent too. */
export class Batch {
  /** What is sent. */
  readonly messages: ItemMessage[] = [];
  /** The longest time that one of them may take. */
  readonly timeoutMs: number;
  readonly #items: readonly PreparedItem[];
  readonly #owed = new Map<string, PreparedItem>();

  constructor(items: Iterable<Item>, defaultTimeoutMs: number) {
    this.#items = Array.from(items, (item, index) => prepareItem(item, index, defaultTimeoutMs));
    let longest = 0;
    for (const item of this.#items) {
      if (item.message !== undefined) {
        this.messages.push(item.message);
        this.#owed.set(item.message.id, item);
        longest = Math.max(longest, item.timeoutMs);
      }
    }
    this.timeoutMs = longest;
  }

  /** Results of the items that cannot be sent. */
  refused(): Result[] {
    return this.#items.filter((item) => item.error !== undefined);
  }

  /** The results that an answer brings; ids that are not owed are skipped. */
  settle(answers: readonly ItemResult[]): Result[] {
    const results: Result[] = [];
    for (const answer of answers) {
      const item = this.#owed.get(answer.id);
      if (item !== undefined) {
        this.#owed.delete(answer.id);
        const result = resultOf(answer, item.id, item.index);
        results.push(result.error === undefined ? result : { ...result, error: ofItem(result.error) });
      }
    }
    return results;
  }

  /** How many items that were sent have no result. */
  get owed(): number {
    return this.#owed.size;
  }

  /** What an answer tells of each item, in the order of the items. */
  tokenizations(answers: readonly TokenizeResultMessage[]): TokenizeResult[] {
    const byId = new Map(answers.map((answer) => [answer.id, answer]));
    return this.#items.map(({ id, message, error }) => {
      const answer = message === undefined ? undefined : byId.get(message.id);
      if (answer !== undefined) {
        const result = tokenizeResultOf(answer, id);
        return result.error === undefined ? result : { ...result, error: ofItem(result.error) };
      }
      const otherwise = new RewardError("INTERNAL", "the server answered without this item");
      return { id, tokenization: undefined, error: error ?? otherwise };
    });
  }
}

/** An item's error by the field of the item itself: the list that was sent may lack some of the caller's items. */
function ofItem(error: RewardError): RewardError {
  const { code, message, reason, retryDelayMs, metadata } = error;
  const field = error.field.replace(/^items\[\d+\]\.?/, "");
  return field === error.field ? error : new RewardError(code, message, { reason, field, retryDelayMs, metadata });
}
