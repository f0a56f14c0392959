import { type Socket, connect, isIP } from "node:net";
import { checkServerIdentity, connect as connectTls } from "node:tls";

import type { Transport } from "@connectrpc/connect";
import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";

import type { Address } from "./address.js";
import type { ClientSettings, TlsSettings } from "./settings.js";
import { bearing } from "../token.js";

/** Largest message that is sent and read; the server's default is the same. */
export const MAX_MESSAGE_BYTES = 16_777_216;
/** How long a connection may take until it is made, encryption included. */
const CONNECT_MS = 20_000;
/** Node refuses new calls while more than this is queued to be sent; by default 10, which one large item exceeds. */
const SESSION_MEGABYTES = 1024;
const PING_AFTER_MS = 30_000;
const PING_ANSWER_MS = 10_000;

/** A connection of a client's own, made when it is first used and again after a loss. */
export interface Connection {
  readonly transport: Transport;
  /** Ends it, and every call on it. */
  close(): void;
}

/** Prepares a connection to one server: encrypted where the settings say so, else plain. */
export function openConnection({ address, tls, token }: ClientSettings): Connection {
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  const baseUrl = `${tls === undefined ? "http" : "https"}://${host}${address.path === undefined ? `:${address.port}` : ""}`;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: PING_AFTER_MS, pingTimeoutMs: PING_ANSWER_MS },
    { createConnection: () => dial(address, tls), maxSessionMemory: SESSION_MEGABYTES },
  );
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
    interceptors: token === undefined ? [] : [bearing(token)],
  });
  return { transport, close: () => sessionManager.abort() };
}

function dial(address: Address, tls: TlsSettings | undefined): Socket {
  const where = address.path === undefined ? { host: address.host, port: address.port } : { path: address.path };
  const socket =
    tls === undefined
      ? connect(where)
      : connectTls({
          ...where,
          secureContext: tls.context,
          ALPNProtocols: ["h2"],
          rejectUnauthorized: true, // whatever the environment says
          // An IP address is no server name indication, and still what the certificate is checked for.
          ...(isIP(tls.serverName) ? {} : { servername: tls.serverName }),
          checkServerIdentity: (_, certificate) => checkServerIdentity(tls.serverName, certificate),
        });
  socket.setNoDelay(true);
  const patience = setTimeout(
    () => socket.destroy(new Error(`no connection to ${address.text} within ${CONNECT_MS / 1000} s`)),
    CONNECT_MS,
  );
  const settled = (): void => clearTimeout(patience);
  socket.once(tls === undefined ? "connect" : "secureConnect", settled).once("close", settled);
  return socket;
}
