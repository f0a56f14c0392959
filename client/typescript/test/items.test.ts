import assert from "node:assert/strict";
import { test } from "node:test";

import { toBinary, toJson } from "@bufbuild/protobuf";

import { ItemSchema } from "../src/gen/rm_grpc/v1/conversation_pb.js";
import { prepareItem } from "../src/items.js";
import type { Item } from "../src/types.js";

function prepared(item: unknown, timeoutMs = Infinity) {
  return prepareItem(item as Item, 7, timeoutMs);
}

function json(item: Item, timeoutMs?: number): unknown {
  const { message, error } = prepared(item, timeoutMs);
  assert(message !== undefined, error?.message);
  return toJson(ItemSchema, message);
}

test("a conversation arrives as it was given", () => {
  const item: Item = {
    id: "mine",
    group: "g",
    timeoutMs: 1500,
    metadata: { answer: "4", nested: [1, null, { deep: true }] },
    tools: [{ type: "function" }],
    messages: [
      { role: "user", content: [{ type: "text", text: "2+" }, { text: "2?" }], name: "Ada" },
      {
        role: "assistant",
        content: null,
        reasoning_content: "easy",
        tool_calls: [{ id: "c", type: "function", function: { name: "add", arguments: '{"a": 2}' } }],
      },
      { role: "tool", content: "4", tool_call_id: "c" },
    ],
  };
  assert.deepEqual(json(item), {
    id: "7",
    group: "g",
    timeout: "1.500s",
    metadata: { answer: "4", nested: [1, null, { deep: true }] },
    conversation: {
      toolsJson: '[{"type":"function"}]',
      messages: [
        { role: "user", content: [{ text: "2+" }, { text: "2?" }], name: "Ada" },
        { role: "assistant", reasoningContent: "easy", toolCalls: [{ id: "c", name: "add", argumentsJson: '{"a": 2}' }] },
        { role: "tool", content: [{ text: "4" }], toolCallId: "c" },
      ],
    },
  });
  assert.equal(prepared(item).id, "mine");
});

test("text, token ids and the JSON text of tools too", () => {
  assert.deepEqual(json({ text: "x" }, 2000), { id: "7", text: "x", timeout: "2s" });
  const ids = { ids: "AQAAAP7///8=", tokenizerDigest: "d" };
  assert.deepEqual(json({ tokens: { ids: [1, -2], tokenizerDigest: "d" } }), { id: "7", tokens: ids });
  assert.deepEqual(json({ tokens: { ids: Int32Array.of(1, -2), tokenizerDigest: "d" } }), { id: "7", tokens: ids });
  assert.deepEqual(json({ messages: [], tools: '[{"max": 9223372036854775807}]' }), {
    id: "7",
    conversation: { toolsJson: '[{"max": 9223372036854775807}]' },
  });
});

test("an item without an id has its position", () => {
  assert.equal(prepared({ text: "x" }).id, "7");
  assert.equal(prepared({ id: "", text: "x" }).id, "7");
  assert.equal(prepared({ id: "y", text: 5 }).id, "y");
});

test("the bytes are never fewer than what is sent", () => {
  for (const timeoutMs of [0, 1, 599_999.123_456, 3e14]) {
    const item = prepared({ text: "x" }, timeoutMs);
    assert(item.message !== undefined && item.bytes >= toBinary(ItemSchema, item.message).length);
  }
});

test("what cannot be sent is refused at the place that is at fault", () => {
  const call = { function: { name: "f", arguments: { a: 1 } } };
  const refused: [field: string, item: unknown][] = [
    ["", 3],
    ["", null],
    ["", {}],
    ["", { text: "x", messages: [] }],
    ["id", { id: 5, text: "x" }],
    ["id", { id: "\ud800", text: "x" }],
    ["text", { text: 5 }],
    ["text", { text: "\udc00" }],
    ["group", { text: "x", group: 5 }],
    ["tools", { text: "x", tools: [] }],
    ["tools", { messages: [], tools: {} }],
    ["messages", { messages: "hello" }],
    ["messages[0]", { messages: ["hello"] }],
    ["messages[0].role", { messages: [{ content: "x" }] }],
    ["messages[1].content", { messages: [{ role: "user" }, { role: "user", content: 5 }] }],
    ["messages[0].content[1]", { messages: [{ role: "user", content: [{ text: "x" }, { type: "image_url" }] }] }],
    ["messages[0].content[0].text", { messages: [{ role: "user", content: [{ text: "\ud800" }] }] }],
    ["messages[0].tool_calls[0].function", { messages: [{ role: "assistant", tool_calls: [{}] }] }],
    ["messages[0].tool_calls[0].function.arguments", { messages: [{ role: "assistant", tool_calls: [call] }] }],
    ["timeoutMs", { text: "x", timeoutMs: "soon" }],
    ["timeoutMs", { text: "x", timeoutMs: -1 }],
    ["timeoutMs", { text: "x", timeoutMs: NaN }],
    ["metadata", { text: "x", metadata: [1] }],
    ["metadata.a[0]", { text: "x", metadata: { a: [NaN] } }],
    ["metadata.f", { text: "x", metadata: { f: () => {} } }],
    ["tokens", { tokens: [1] }],
    ["tokens.ids[1]", { tokens: { ids: [1, 2 ** 31], tokenizerDigest: "d" } }],
  ];
  for (const [field, item] of refused) {
    const { error } = prepared(item);
    assert.deepEqual([error?.code, error?.field], ["INVALID_ARGUMENT", field], JSON.stringify(item));
  }
});

test("content that is no text has a reason of its own", () => {
  const { error } = prepared({ messages: [{ role: "user", content: [{ type: "image_url" }] }] });
  assert.equal(error?.reason, "UNSUPPORTED_CONTENT");
  assert.match(error.message, /image_url/);
});

test("an object that throws when it is read is refused", () => {
  const item = Object.defineProperty({}, "text", {
    get() {
      throw new Error("gone");
    },
  });
  assert.match(prepared(item).error?.message ?? "", /gone/);
});
