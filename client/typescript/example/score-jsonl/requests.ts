import { type ConversationItem, type Item, type JsonObject, RewardError } from "rm-grpc-client";

import { memberText } from "./member-text.js";

/** What a line asks for: an item, or that items are taken back. */
export type Request = { readonly item: Item } | { readonly cancel: string };

const UTF8 = new TextDecoder("utf-8", { fatal: true });
const KNOWN = ["id", "messages", "text", "tools", "timeout", "group", "metadata"];

/**
 * Reads a line; undefined for a blank one. A line that asks for nothing is an item with an error. What is inside of messages and
 * metadata is the client's to look at.
 */
export function requestOf(line: Uint8Array): Request | undefined {
  let id: string | undefined;
  try {
    const json = textOf(line);
    if (json.trim() === "") {
      return undefined;
    }
    const value = objectOf(json);
    if (typeof value["id"] === "string" && value["id"].isWellFormed()) {
      id = value["id"];
    }
    if ("cancel" in value) {
      return { cancel: text(value, "cancel") ?? "" };
    }
    return { item: itemOf(value, json) };
  } catch (error) {
    if (error instanceof RewardError) {
      return { item: { id, error } };
    }
    throw error;
  }
}

function textOf(line: Uint8Array): string {
  try {
    return UTF8.decode(line);
  } catch {
    throw refused("the line is no UTF-8");
  }
}

function objectOf(json: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw refused(`the line is no JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) {
    throw refused("a line must be an object");
  }
  return value;
}

function itemOf(value: Readonly<Record<string, unknown>>, json: string): Item {
  const unknown = Object.keys(value).filter((key) => !KNOWN.includes(key));
  if (unknown.length > 0) {
    throw refused(`unknown keys ${unknown.join(", ")}; known are ${KNOWN.join(", ")}`);
  }
  const { messages, tools = null, timeout = null, metadata = null } = value;
  if (timeout !== null && !(typeof timeout === "number" && timeout >= 0)) {
    throw refused("must be seconds, as a number that is not negative", "timeout");
  }
  if (metadata !== null && !isObject(metadata)) {
    throw refused("must be an object", "metadata");
  }
  const fields = {
    id: text(value, "id"),
    group: text(value, "group"),
    timeoutMs: timeout === null ? undefined : timeout * 1000,
    metadata: metadata === null ? undefined : (metadata as JsonObject),
  };
  const rendered = text(value, "text");
  if ((rendered === undefined) === (messages === undefined)) {
    throw refused("a line needs either messages or text");
  }
  if (rendered !== undefined) {
    return { ...fields, text: rendered };
  }
  if (tools !== null && !Array.isArray(tools)) {
    throw refused("must be an array", "tools");
  }
  // As the line has them: a parsed number may have lost digits, and the model would read another one.
  const toolsText = tools === null ? undefined : memberText(json, "tools");
  return { ...fields, messages: messages as ConversationItem["messages"], tools: toolsText };
}

function text(value: Readonly<Record<string, unknown>>, key: string): string | undefined {
  const found = value[key] ?? undefined;
  if (found !== undefined && typeof found !== "string") {
    throw refused("must be text", key);
  }
  return found;
}

function refused(message: string, field = ""): RewardError {
  return new RewardError("INVALID_ARGUMENT", message, { field });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
