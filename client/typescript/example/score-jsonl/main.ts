import { once } from "node:events";

import { RewardClient, RewardError, type ScoreStream } from "rm-grpc-client";

import { lineOfResult, lineOfStreamError } from "./answers.js";
import { flagOf, optionsOf } from "./flags.js";
import { linesOf } from "./lines.js";
import { requestOf } from "./requests.js";

const client = clientOrExit();
const stream = client.openStream();
void readRequests(stream).catch((error: unknown) => stream.close(error));
try {
  for await (const result of stream) {
    await write(lineOfResult(result));
  }
} catch (error) {
  if (!(error instanceof RewardError)) {
    throw error;
  }
  await write(lineOfStreamError(error));
  process.exitCode = 1;
} finally {
  client.close();
  process.stdin.destroy();
}

function clientOrExit(): RewardClient {
  try {
    return new RewardClient(optionsOf(process.argv.slice(2), process.env));
  } catch (error) {
    const prefix = error instanceof RewardError && error.field !== "" ? `${flagOf(error.field)} ` : "";
    process.stderr.write(`score-jsonl: ${prefix}${(error as Error).message}\n`);
    process.exit(2);
  }
}

async function readRequests(to: ScoreStream): Promise<void> {
  for await (const line of linesOf(process.stdin)) {
    const request = requestOf(line);
    if (request === undefined) {
      continue;
    }
    if ("cancel" in request) {
      to.cancel(request.cancel);
    } else {
      await to.send(request.item);
    }
  }
  to.finish();
}

async function write(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) {
    await once(process.stdout, "drain");
  }
}
