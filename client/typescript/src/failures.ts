import { Code, ConnectError } from "@connectrpc/connect";

import { RewardError } from "./errors.js";
import { errorOfAnswer } from "./status.js";

/**
 * The error that a failed call tells of. UNAVAILABLE, by which a call may be tried again, is what a server says of itself, and
 * what is said of one that was not reached or was lost.
 */
export function errorOfCall(error: unknown, address: string): RewardError {
  const failure = ConnectError.from(error);
  if (isAnswer(failure)) {
    return errorOfAnswer(failure);
  }
  if (failure.code === Code.ResourceExhausted && failure.rawMessage.includes("is larger than configured")) {
    return new RewardError("RESOURCE_EXHAUSTED", failure.rawMessage, { reason: "MESSAGE_TOO_LARGE", cause: failure });
  }
  if (failure.code === Code.DeadlineExceeded) {
    return new RewardError("DEADLINE_EXCEEDED", `no answer of ${address} in time`, { cause: failure });
  }
  const told = failure.rawMessage || causeOf(failure.cause);
  return new RewardError("UNAVAILABLE", `${address}: ${told}`, { cause: failure });
}

/** Whether a server, or a proxy before it, sent the error: its headers come with it. */
function isAnswer(failure: ConnectError): boolean {
  return !failure.metadata.keys().next().done;
}

/** Several addresses of one host fail together, as an error without a message of its own. */
function causeOf(cause: unknown): string {
  if (cause instanceof AggregateError) {
    return cause.errors.map(causeOf).join(", ");
  }
  return cause instanceof Error ? cause.message : String(cause);
}
