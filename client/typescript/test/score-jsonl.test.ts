import assert from "node:assert/strict";
import { test } from "node:test";

import { linesOf } from "../example/score-jsonl/lines.js";
import { memberText } from "../example/score-jsonl/member-text.js";

test("a member's text is what stands in the object", () => {
  const json = String.raw`{ "a" : {"tools": 1}, "to\u006fls" : [ {"}": "]\"", "max": 9223372036854775807} , 1.0 ], "b":"tools" }`;
  assert.equal(memberText(json, "tools"), String.raw`[ {"}": "]\"", "max": 9223372036854775807} , 1.0 ]`);
  assert.equal(memberText(json, "b"), '"tools"');
  assert.equal(memberText(json, "c"), undefined);
  assert.equal(memberText('{"a":1,"a":{}}', "a"), "{}");
  assert.equal(memberText("{}", "a"), undefined);
});

test("lines end at newlines only, however the bytes come", async () => {
  const lines: string[] = [];
  const chunks = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    for (const text of ["a\nb", "", "c", "\n\nd\u2028e\nlast"]) {
      yield Buffer.from(text);
    }
  };
  for await (const line of linesOf(chunks())) {
    lines.push(Buffer.from(line).toString());
  }
  assert.deepEqual(lines, ["a", "bc", "", "d\u2028e", "last"]);
});
