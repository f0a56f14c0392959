import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { status } from "./responses.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { errorOfStatus } from "../src/status.js";

test("an error has what its status tells", () => {
  const told = { code: 8, message: "full", reason: "OVERLOADED", field: "items[0]", retryDelayMs: 250, metadata: { queue: "9" } };
  const { name, code, message, reason, field, retryDelayMs, metadata } = errorOfStatus(status(told));
  assert.deepEqual(
    { name, code, message, reason, field, retryDelayMs, metadata },
    { ...told, name: "RewardError", code: "RESOURCE_EXHAUSTED" },
  );
});

test("a reason of the future is kept", () => {
  const error = errorOfStatus(status({ code: 7, reason: "REASON_OF_THE_FUTURE" }));
  assert.deepEqual([error.code, error.reason], ["PERMISSION_DENIED", "REASON_OF_THE_FUTURE"]);
});

test("without details the code gives the reason", () => {
  const reasons = [3, 5, 14, 16, 7, 99].map((code) => {
    const error = errorOfStatus(create(StatusSchema, { code }));
    return `${error.code} ${error.reason}`;
  });
  assert.deepEqual(reasons, [
    "INVALID_ARGUMENT INVALID_REQUEST",
    "NOT_FOUND MODEL_NOT_FOUND",
    "UNAVAILABLE UNAVAILABLE",
    "UNAUTHENTICATED UNAUTHENTICATED",
    "PERMISSION_DENIED UNKNOWN",
    "UNKNOWN UNKNOWN",
  ]);
});

test("details that are not known are skipped", () => {
  const details = [{ typeUrl: "type.googleapis.com/of.the.Future", value: Uint8Array.of(1, 2, 3) }];
  assert.equal(errorOfStatus(create(StatusSchema, { code: 13, message: "x", details })).message, "x");
});
