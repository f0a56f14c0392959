import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { createRegistry } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { REFUSED, type Told, itemResult, opened, results } from "./responses.js";
import { BadRequestSchema, ErrorInfoSchema, file_google_rpc_error_details } from "../src/gen/google/rpc/error_details_pb.js";
import type { Item } from "../src/gen/rm_grpc/v1/conversation_pb.js";
import { RewardService, type ScoreBatchRequest } from "../src/gen/rm_grpc/v1/reward_service_pb.js";
import type { ItemResult } from "../src/gen/rm_grpc/v1/score_pb.js";

type Service = ServiceImpl<typeof RewardService>;

/** A server of this process. */
export interface TestServer {
  readonly address: string;
  readonly authorizations: readonly (string | null)[];
  /** Breaks all connections, as a server's death does. */
  breakConnections(): void;
  close(): Promise<void>;
}

/**
 * Serves on a free port. An item's text says what becomes of it: a number is its score, `refuse` an error, `wait` a score after a
 * while, `never` has no result, and other text has its length for a score.
 *
 * @param protocol - grpc over HTTP/2, or connect over HTTP/1.1 as browsers speak it.
 * @param changed - methods that do something else.
 */
export async function serve(protocol: "grpc" | "connect", changed: Partial<Service> = {}): Promise<TestServer> {
  const authorizations: (string | null)[] = [];
  const handler = connectNodeAdapter({
    jsonOptions: { registry: createRegistry(file_google_rpc_error_details) },
    routes: (router) => router.service(RewardService, { ...SERVICE, ...changed }),
    interceptors: [
      (next) => (request) => {
        authorizations.push(request.header.get("authorization"));
        return next(request);
      },
    ],
  });
  const server: Server = protocol === "grpc" ? http2.createServer(handler) : http.createServer(withCors(handler));
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const breakConnections = (): void => sockets.forEach((socket) => socket.destroy());
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    authorizations,
    breakConnections,
    close: async () => {
      breakConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** The error that a server ends a call with, where it has no such model. */
export function noSuchModel(name: string): ConnectError {
  return new ConnectError(`no model '${name}' is served`, Code.NotFound, undefined, [
    { desc: ErrorInfoSchema, value: { reason: "MODEL_NOT_FOUND", domain: "rm_grpc", metadata: { served: "m" } } },
    { desc: BadRequestSchema, value: { fieldViolations: [{ field: "model" }] } },
  ]);
}

const OUTCOMES: Record<string, Told> = {
  refuse: REFUSED,
  "<start_of_turn>user": { code: 3, reason: "FOREIGN_CHAT_MARKERS", message: "rendered already", field: "messages[1].content" },
};

const SERVICE: Service = {
  async score({ model, items }, context) {
    checkModel(model);
    return { results: await Promise.all(items.map((item) => outcomeOf(item, context))), modelDigest: "d" };
  },
  async *scoreEach({ model, items }, context) {
    checkModel(model);
    for await (const result of asReady(items, context)) {
      yield { results: [result], modelDigest: "d" };
    }
  },
  async *scoreBatch(requests: AsyncIterable<ScoreBatchRequest>, context) {
    for await (const { message } of requests) {
      if (message.case === "open") {
        checkModel(message.value.model);
        yield opened();
      } else if (message.case === "items") {
        for await (const result of asReady(message.value.items, context)) {
          yield { message: { case: "results", value: { results: [result] } } };
        }
      } else if (message.case === "cancel") {
        yield results(...message.value.ids.map((id) => [id, { code: 1, reason: "CANCELLED" }] as const));
      }
    }
  },
  listModels: () => ({ models: [{ name: "m", limits: { maxLength: 2048, maxMessageBytes: 1000n } }] }),
  getModel({ name }) {
    checkModel(name);
    return { model: { name: "m" } };
  },
  tokenize: ({ items }) => ({ results: items.map(({ id }) => ({ id, tokenization: { ids: [1, 2], bosCount: 1 } })) }),
};

function checkModel(name: string): void {
  if (name !== "" && name !== "m") {
    throw noSuchModel(name);
  }
}

async function outcomeOf({ id, input }: Item, { signal }: HandlerContext): Promise<ItemResult> {
  const text = input.case === "conversation" ? textOfResponse(input.value.messages) : input.case === "text" ? input.value : "";
  if (text === "never") {
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }
  if (text === "wait") {
    await sleep(200);
    return itemResult(id, 0);
  }
  return itemResult(id, OUTCOMES[text] ?? (Number(text) || text.length));
}

function textOfResponse(messages: Extract<Item["input"], { case: "conversation" }>["value"]["messages"]): string {
  return (
    messages
      .at(-1)
      ?.content.map(({ part }) => part.value ?? "")
      .join("") ?? ""
  );
}

async function* asReady(items: readonly Item[], context: HandlerContext): AsyncGenerator<ItemResult, void, undefined> {
  const waiting = new Map(items.map((item) => [item.id, outcomeOf(item, context)]));
  while (waiting.size > 0) {
    const result = await Promise.race(waiting.values());
    waiting.delete(result.id);
    yield result;
  }
}

function withCors(handler: http.RequestListener): http.RequestListener {
  return (request, response) => {
    response.setHeader("access-control-allow-origin", "*");
    if (request.method === "OPTIONS") {
      response.setHeader("access-control-allow-methods", "POST");
      response.setHeader("access-control-allow-headers", "*, authorization");
      response.writeHead(204).end();
    } else {
      handler(request, response);
    }
  };
}
