import { milliseconds } from "./durations.js";
import { RewardError } from "./errors.js";
import type { ModelInfo as ModelInfoMessage } from "./gen/rm_grpc/v1/model_pb.js";
import type { TokenizeResult as TokenizeResultMessage } from "./gen/rm_grpc/v1/reward_service_pb.js";
import type { ItemResult, Score as ScoreMessage } from "./gen/rm_grpc/v1/score_pb.js";
import { activationOf } from "./options.js";
import { errorOfStatus } from "./status.js";
import type { ModelInfo, Result, Score, TokenizeResult } from "./types.js";

/** The outcome of an item, under the caller's id. */
export function resultOf(message: ItemResult, id: string, index: number): Result {
  const { outcome } = message;
  switch (outcome.case) {
    case "score":
      return { id, index, score: scoreOf(outcome.value) };
    case "error":
      return { id, index, error: errorOfStatus(outcome.value) };
    default:
      return { id, index, error: new RewardError("INTERNAL", "the server answered with neither a score nor an error") };
  }
}

/** A model's description as a value. */
export function modelInfoOf(message: ModelInfoMessage): ModelInfo {
  const { $typeName: _, $unknown: __, limits, ...fields } = message;
  return {
    ...fields,
    limits: {
      maxLength: limits?.maxLength ?? 0,
      maxMessageBytes: Number(limits?.maxMessageBytes ?? 0),
      windowItems: limits?.windowItems ?? 0,
      windowBytes: Number(limits?.windowBytes ?? 0),
    },
  };
}

/** What would be read, as a value, under the caller's id. */
export function tokenizeResultOf(message: TokenizeResultMessage, id: string): TokenizeResult {
  const { tokenization, error } = message;
  let read: TokenizeResult["tokenization"];
  if (tokenization !== undefined) {
    const { $typeName: _, $unknown: __, ...fields } = tokenization;
    read = fields;
  }
  return { id, tokenization: read, error: error === undefined ? undefined : errorOfStatus(error) };
}

/** Numbers are float32, but JSON has no more of their digits than it takes to tell them apart. */
function scoreOf(message: ScoreMessage): Score {
  const { timing } = message;
  return {
    score: Math.fround(message.score),
    rawScore: Math.fround(message.rawScore),
    activation: activationOf(message.activation),
    attributes: Object.fromEntries(message.attributes.map(({ name, value }) => [name, Math.fround(value)])),
    steps: message.steps.map(({ score, tokenOffset, charStart, charEnd }) => ({
      score: Math.fround(score),
      tokenOffset,
      charStart,
      charEnd,
    })),
    tokenCount: message.tokenCount,
    truncated: message.truncated,
    sharedPrefixTokens: message.sharedPrefixTokens,
    modelDigest: message.modelDigest,
    timing: {
      textQueueMs: milliseconds(timing?.textQueue),
      renderMs: milliseconds(timing?.render),
      encodeMs: milliseconds(timing?.encode),
      queueMs: milliseconds(timing?.queue),
      forwardMs: milliseconds(timing?.forward),
    },
  };
}
