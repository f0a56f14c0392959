/** gRPC status codes by name, at the place of their number. */
const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** A gRPC status code, by name. */
export type Code = Exclude<(typeof CODES)[number], "OK">;

/** What kind of failure it is, by its stable name. Servers may know more kinds than this client. */
export type Reason =
  | "UNKNOWN"
  | "INVALID_REQUEST"
  | "EMPTY_BATCH"
  | "NO_INPUT"
  | "NO_MESSAGES"
  | "NO_RESPONSE"
  | "NO_STEPS"
  | "UNKNOWN_ROLE"
  | "UNSUPPORTED_CONTENT"
  | "TEMPLATE_REFUSED"
  | "CONVERSATION_TOO_LONG"
  | "FOREIGN_CHAT_MARKERS"
  | "CONTROL_TOKENS_IN_CONTENT"
  | "TOKEN_ID_OUT_OF_RANGE"
  | "TOKENIZER_MISMATCH"
  | "STREAM_PROTOCOL"
  | "MODEL_NOT_FOUND"
  | "DUPLICATE_ID"
  | "RESOURCE_EXHAUSTED"
  | "OVERLOADED"
  | "WINDOW_EXCEEDED"
  | "MESSAGE_TOO_LARGE"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  | "UNAVAILABLE"
  | "DRAINING"
  | "UNAUTHENTICATED"
  | "INTERNAL"
  | "SCORE_NOT_FINITE"
  | "SCORER_FAILED"
  | "UNPARSABLE_VERDICT"
  | "QUARANTINED"
  | (string & {});

/** What a failure has beside its code and message. */
export interface RewardErrorDetails {
  reason?: Reason | undefined;
  field?: string | undefined;
  retryDelayMs?: number | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  cause?: unknown;
}

/** Any failure of the service: of one item, of a call, or of a whole stream. */
export class RewardError extends Error {
  /** The gRPC status code. */
  readonly code: Code;
  /** The stable name of the kind of failure. */
  readonly reason: Reason;
  /** Path of the field or setting that is at fault, or empty. */
  readonly field: string;
  /** After how many milliseconds a retry may succeed; undefined where it cannot. */
  readonly retryDelayMs: number | undefined;
  /** Further facts. */
  readonly metadata: Readonly<Record<string, string>>;

  static {
    this.prototype.name = "RewardError";
  }

  constructor(code: Code, message: string, details: RewardErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.reason = details.reason || REASON_OF_CODE[code] || "UNKNOWN";
    this.field = details.field ?? "";
    this.retryDelayMs = details.retryDelayMs;
    this.metadata = details.metadata ?? {};
  }
}

/** The reason of an error that comes without one. */
const REASON_OF_CODE: Partial<Record<Code, Reason>> = {
  INVALID_ARGUMENT: "INVALID_REQUEST",
  NOT_FOUND: "MODEL_NOT_FOUND",
  ALREADY_EXISTS: "DUPLICATE_ID",
  FAILED_PRECONDITION: "TOKENIZER_MISMATCH",
  RESOURCE_EXHAUSTED: "RESOURCE_EXHAUSTED",
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  CANCELLED: "CANCELLED",
  UNAVAILABLE: "UNAVAILABLE",
  UNAUTHENTICATED: "UNAUTHENTICATED",
  INTERNAL: "INTERNAL",
};

/** The name of a status code; UNKNOWN for numbers that gRPC has not. */
export function codeOf(number: number): Code {
  const code = CODES[number];
  return code === undefined || code === "OK" ? "UNKNOWN" : code;
}

/** The error of a value that the caller gave. */
export function invalid(message: string, field = "", cause?: unknown): RewardError {
  return new RewardError("INVALID_ARGUMENT", message, { field, ...(cause === undefined ? {} : { cause }) });
}
