import assert from "node:assert/strict";
import { test } from "node:test";

import { RewardError } from "../src/errors.js";
import { SubmissionOrder } from "../src/ordering.js";
import type { Result } from "../src/types.js";

function result(index: number): Result {
  return { id: "", index, error: new RewardError("UNKNOWN", "") };
}

test("results are held back until all before them are there", () => {
  const order = new SubmissionOrder();
  const taken = (...indices: number[]): number[] => order.take(indices.map(result)).map(({ index }) => index);
  assert.deepEqual(taken(1, 3), []);
  assert.equal(order.held, 2);
  assert.deepEqual(taken(0), [0, 1]);
  assert.deepEqual(taken(2, 4), [2, 3, 4]);
  assert.equal(order.held, 0);
});
