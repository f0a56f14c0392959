import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";

import { milliseconds } from "./durations.js";
import { RewardError, codeOf } from "./errors.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

/** The error that the status of an item tells of. */
export function errorOfStatus(status: Status): RewardError {
  return errorOf(status.code, status.message, status.details.map(ofAny));
}

/** The error that a server answered a call with. */
export function errorOfAnswer(error: ConnectError): RewardError {
  const details = error.details.filter((detail) => "type" in detail);
  return errorOf(error.code, error.rawMessage, details, error);
}

interface Detail {
  readonly type: string;
  readonly value: Uint8Array;
}

function ofAny(any: Any): Detail {
  return { type: any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1), value: any.value };
}

function errorOf(code: number, message: string, details: readonly Detail[], cause?: unknown): RewardError {
  let reason = "";
  let field = "";
  let metadata: Record<string, string> = {};
  let retryDelayMs: number | undefined;
  for (const { type, value } of details) {
    if (type === ErrorInfoSchema.typeName) {
      ({ reason, metadata } = fromBinary(ErrorInfoSchema, value));
    } else if (type === BadRequestSchema.typeName) {
      field = fromBinary(BadRequestSchema, value).fieldViolations[0]?.field ?? "";
    } else if (type === RetryInfoSchema.typeName) {
      retryDelayMs = milliseconds(fromBinary(RetryInfoSchema, value).retryDelay);
    }
  }
  return new RewardError(codeOf(code), message, {
    reason,
    field,
    metadata,
    retryDelayMs,
    ...(cause === undefined ? {} : { cause }),
  });
}
