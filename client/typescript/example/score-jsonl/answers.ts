import type { Result, RewardError } from "rm-grpc-client";

/** A result as a line. */
export function lineOfResult({ id, index, score, error }: Result): string {
  if (error !== undefined) {
    return jsonText({ id, index, error: errorFields(error) });
  }
  return jsonText({
    id,
    index,
    score: score.score,
    raw_score: score.rawScore,
    token_count: score.tokenCount,
    model_digest: score.modelDigest,
    attributes: Object.keys(score.attributes).length > 0 ? score.attributes : undefined,
    steps:
      score.steps.length > 0
        ? score.steps.map((step) => ({
            score: step.score,
            token_offset: step.tokenOffset,
            char_start: step.charStart,
            char_end: step.charEnd,
          }))
        : undefined,
  });
}

/** The line that tells of a stream that failed as a whole. */
export function lineOfStreamError(error: RewardError): string {
  return jsonText({ stream_error: errorFields(error) });
}

function errorFields(error: RewardError): object {
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    field: error.field || undefined,
    retry_delay: error.retryDelayMs === undefined ? undefined : error.retryDelayMs / 1000,
  };
}

/** As JSON.stringify, which takes the sign of a negative zero away. */
function jsonText(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(jsonText).join(",")}]`;
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${jsonText(member)}`).join(",")}}`;
  }
  return Object.is(value, -0) ? "-0.0" : JSON.stringify(value);
}
