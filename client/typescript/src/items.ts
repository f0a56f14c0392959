import { create, toBinary } from "@bufbuild/protobuf";

import { duration } from "./durations.js";
import { RewardError, invalid } from "./errors.js";
import {
  type Conversation,
  ConversationSchema,
  type Item as ItemMessage,
  ItemSchema,
  type Message as MessageMessage,
  MessageSchema,
  type ToolCall as ToolCallMessage,
  ToolCallSchema,
} from "./gen/rm_grpc/v1/conversation_pb.js";
import type { Item, JsonObject } from "./types.js";

/** Protobuf's durations end about here. */
const LONGEST_MS = 3e14;
/** Most that a timeout takes of an item; how much it takes changes with the time that is left. */
const TIMEOUT_BYTES = 20;

/** An item as it is sent, or the error of one that cannot be; under the caller's id. */
export type PreparedItem = { readonly id: string; readonly index: number } & (
  | { readonly message: ItemMessage; readonly bytes: number; readonly timeoutMs: number; readonly error?: undefined }
  | { readonly message?: undefined; readonly error: RewardError }
);

/**
 * Makes an item ready to be sent, with its position for an id. Looks at every value: callers in JavaScript, and JSON, may give
 * anything, and one odd item must not be the failure of the others.
 */
export function prepareItem(item: Item, index: number, defaultTimeoutMs: number): PreparedItem {
  let id = String(index);
  try {
    const values = object(item, "an item", "");
    id = text(values["id"], "id") || id;
    if (values["error"] instanceof RewardError) {
      return { id, index, error: values["error"] };
    }
    const timeoutMs = timeoutOf(values["timeoutMs"] ?? defaultTimeoutMs);
    const message = create(ItemSchema, {
      id: String(index),
      input: inputOf(values),
      group: text(values["group"], "group"),
    });
    if (isGiven(values["metadata"])) {
      message.metadata = metadataOf(values["metadata"]);
    }
    const bytes = toBinary(ItemSchema, message).length + TIMEOUT_BYTES;
    if (timeoutMs !== Infinity) {
      message.timeout = duration(timeoutMs);
    }
    return { id, index, message, bytes, timeoutMs };
  } catch (error) {
    const told = error instanceof Error ? error.message : String(error);
    return { id, index, error: error instanceof RewardError ? error : invalid(`cannot be sent: ${told}`, "", error) };
  }
}

function timeoutOf(value: unknown): number {
  if (typeof value !== "number" || !(value >= 0) || (value > LONGEST_MS && value !== Infinity)) {
    throw invalid("must be milliseconds, as a number that is not negative", "timeoutMs");
  }
  return value;
}

type Values = Readonly<Record<string, unknown>>;

function inputOf(item: Values): NonNullable<ItemMessage["input"]> {
  const given = ["messages", "text", "tokens"].filter((key) => isGiven(item[key]));
  if (given.length !== 1) {
    throw invalid(`an item needs one of messages, text and tokens; this one has ${given.join(" and ") || "none"}`);
  }
  if (isGiven(item["messages"])) {
    return { case: "conversation", value: conversationOf(item["messages"], item["tools"]) };
  }
  if (isGiven(item["tools"])) {
    throw invalid("goes with messages only", "tools");
  }
  if (isGiven(item["text"])) {
    return { case: "text", value: requiredText(item["text"], "text") };
  }
  const tokens = object(item["tokens"], "tokens", "tokens");
  const value = {
    $typeName: "rm_grpc.v1.TokenIds" as const,
    ids: idBytes(tokens["ids"]),
    tokenizerDigest: text(tokens["tokenizerDigest"], "tokens.tokenizerDigest"),
  };
  return { case: "tokens", value };
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function conversationOf(messages: unknown, tools: unknown): Conversation {
  return create(ConversationSchema, {
    messages: list(messages, "messages").map((message, at) => messageOf(message, `messages[${at}]`)),
    toolsJson: toolsOf(tools),
  });
}

function messageOf(raw: unknown, where: string): MessageMessage {
  const message = object(raw, "a message", where);
  return create(MessageSchema, {
    role: requiredText(message["role"], `${where}.role`),
    content: contentOf(message["content"], `${where}.content`),
    name: text(message["name"], `${where}.name`),
    toolCalls: list(message["tool_calls"] ?? [], `${where}.tool_calls`).map((call, at) =>
      toolCallOf(call, `${where}.tool_calls[${at}]`),
    ),
    toolCallId: text(message["tool_call_id"], `${where}.tool_call_id`),
    reasoningContent: text(message["reasoning_content"], `${where}.reasoning_content`),
  });
}

function contentOf(raw: unknown, where: string): { part: { case: "text"; value: string } }[] {
  if (!isGiven(raw)) {
    return [];
  }
  if (typeof raw === "string") {
    return [{ part: { case: "text", value: text(raw, where) } }];
  }
  if (!Array.isArray(raw)) {
    throw unsupported(`must be text or a list of text parts, not ${kindOf(raw)}`, where);
  }
  return raw.map((part: unknown, at) => {
    const place = `${where}[${at}]`;
    const { type, text: value } = object(part, "a part", place);
    if ((type !== undefined && type !== "text") || typeof value !== "string") {
      throw unsupported(`only text parts can be scored, this one is ${JSON.stringify(type) ?? "none"}`, place);
    }
    return { part: { case: "text" as const, value: text(value, `${place}.text`) } };
  });
}

function toolCallOf(raw: unknown, where: string): ToolCallMessage {
  const call = object(raw, "a tool call", where);
  const called = object(call["function"], "the function of a tool call", `${where}.function`);
  return create(ToolCallSchema, {
    id: text(call["id"], `${where}.id`),
    name: requiredText(called["name"], `${where}.function.name`),
    argumentsJson: text(called["arguments"], `${where}.function.arguments`),
  });
}

function toolsOf(raw: unknown): string {
  if (!isGiven(raw) || typeof raw === "string") {
    return text(raw, "tools");
  }
  return JSON.stringify(list(raw, "tools"));
}

function idBytes(raw: unknown): Uint8Array {
  const ids = raw instanceof Int32Array ? raw : list(raw, "tokens.ids");
  const bytes = new Uint8Array(4 * ids.length);
  const view = new DataView(bytes.buffer);
  for (const [at, id] of ids.entries()) {
    if (typeof id !== "number" || id !== (id | 0)) {
      const details = { reason: "TOKEN_ID_OUT_OF_RANGE", field: `tokens.ids[${at}]` };
      throw new RewardError("INVALID_ARGUMENT", "must be an integer of 32 bits", details);
    }
    view.setInt32(4 * at, id, true);
  }
  return bytes;
}

function object(raw: unknown, what: string, where: string): Values {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw invalid(`${what} must be an object, not ${kindOf(raw)}`, where);
  }
  return raw as Values;
}

function list(raw: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(raw)) {
    throw invalid(`must be a list, not ${kindOf(raw)}`, where);
  }
  return raw;
}

function metadataOf(raw: unknown): JsonObject {
  object(raw, "metadata", "metadata");
  checkJson(raw, "metadata");
  return raw as JsonObject;
}

function checkJson(value: unknown, where: string): void {
  if (typeof value === "string") {
    text(value, where);
  } else if (Array.isArray(value)) {
    value.forEach((one, at) => checkJson(one, `${where}[${at}]`));
  } else if (typeof value === "object" && value !== null) {
    for (const [key, one] of Object.entries(value)) {
      checkJson(one, `${where}.${text(key, where)}`);
    }
  } else if (value !== null && typeof value !== "boolean" && !Number.isFinite(value)) {
    throw invalid(`${String(value)} is no JSON value`, where);
  }
}

function requiredText(raw: unknown, where: string): string {
  if (typeof raw !== "string") {
    throw invalid(`must be text, not ${kindOf(raw)}`, where);
  }
  return text(raw, where);
}

/** Text that UTF-8 can hold: an encoder would put U+FFFD for a lone surrogate, and another text would be scored. */
function text(raw: unknown, where: string): string {
  if (!isGiven(raw)) {
    return "";
  }
  if (typeof raw !== "string") {
    throw invalid(`must be text, not ${kindOf(raw)}`, where);
  }
  if (!raw.isWellFormed()) {
    throw invalid("holds a lone surrogate, which UTF-8 cannot", where);
  }
  return raw;
}

function unsupported(message: string, field: string): RewardError {
  return new RewardError("INVALID_ARGUMENT", message, { reason: "UNSUPPORTED_CONTENT", field });
}

function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
}
