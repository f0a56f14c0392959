import { create } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";

import { duration } from "../src/durations.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { type ScoreBatchResponse, ScoreBatchResponseSchema } from "../src/gen/rm_grpc/v1/reward_service_pb.js";
import { type ItemResult, ItemResultSchema } from "../src/gen/rm_grpc/v1/score_pb.js";

/** What a server says of an error. */
export interface Told {
  readonly code: number;
  readonly message?: string;
  readonly reason?: string;
  readonly domain?: string;
  readonly field?: string;
  readonly retryDelayMs?: number;
  readonly metadata?: Record<string, string>;
}

export const OVERLOADED: Told = { code: 8, reason: "OVERLOADED", message: "full", retryDelayMs: 1000 };
export const UNAVAILABLE: Told = { code: 14, reason: "UNAVAILABLE", message: "no scorer", retryDelayMs: 1000 };
export const DRAINING: Told = { code: 14, reason: "DRAINING", message: "bye", retryDelayMs: 1000 };
export const REFUSED: Told = { code: 3, reason: "NO_RESPONSE", message: "nothing to score", field: "items[9].conversation" };

export function opened(items = 100, bytes = 1_000_000, maxMessageBytes = 0): ScoreBatchResponse {
  const model = { name: "m", limits: { maxMessageBytes: BigInt(maxMessageBytes) } };
  return create(ScoreBatchResponseSchema, {
    message: { case: "opened", value: { model, window: { items, bytes: BigInt(bytes) } } },
  });
}

export function draining(): ScoreBatchResponse {
  return create(ScoreBatchResponseSchema, { message: { case: "draining", value: { reason: "bye" } } });
}

export function results(...outcomes: readonly (readonly [id: string, outcome: number | Told])[]): ScoreBatchResponse {
  return create(ScoreBatchResponseSchema, {
    message: { case: "results", value: { results: outcomes.map(([id, outcome]) => itemResult(id, outcome)) } },
  });
}

export function itemResult(id: string, outcome: number | Told): ItemResult {
  return create(ItemResultSchema, {
    id,
    outcome:
      typeof outcome === "number"
        ? { case: "score", value: { score: outcome, rawScore: outcome, tokenCount: 3, modelDigest: "d" } }
        : { case: "error", value: status(outcome) },
  });
}

export function status({ code, message = "", ...told }: Told): Status {
  return create(StatusSchema, { code, message, details: details(told) });
}

function details({ reason = "", domain = "rm_grpc", field, retryDelayMs, metadata = {} }: Partial<Told>): Any[] {
  const packed = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain, metadata }))];
  if (field !== undefined) {
    packed.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [{ field }] })));
  }
  if (retryDelayMs !== undefined) {
    packed.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: duration(retryDelayMs) })));
  }
  return packed;
}
