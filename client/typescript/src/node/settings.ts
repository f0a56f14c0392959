import { readFileSync } from "node:fs";
import { type SecureContext, createSecureContext } from "node:tls";

import { type Address, parseAddress } from "./address.js";
import { invalid } from "../errors.js";
import { encodeOptions, encodeOrdering } from "../options.js";
import { checkToken } from "../token.js";
import type { Ordering, ScoreOptions } from "../types.js";

/** What a client is made with. */
export interface ClientOptions {
  /** host:port of the server, or unix:PATH. Default 127.0.0.1:50051. */
  readonly address?: string | undefined;
  /** The model to ask; may be left out where the server serves only one. */
  readonly model?: string | undefined;
  /** How items are scored. */
  readonly options?: ScoreOptions | undefined;
  /** The order of results: completion (the default), or submission, where a slow item holds back those after it. */
  readonly ordering?: Ordering | undefined;
  /** How long each item may take; Infinity waits for ever. Default 600,000 (10 minutes). */
  readonly timeoutMs?: number | undefined;
  /** How long a lost server, or one that cannot score, is tried. Default 60,000. */
  readonly reconnectMs?: number | undefined;
  /** How often an item is tried that the server has no room for, or is lost with. Default 20. */
  readonly attempts?: number | undefined;
  /** Encrypts the connection; on where any of the next four is given. */
  readonly tls?: boolean | undefined;
  /** PEM file of the authorities that the server's certificate may come from. Default: the roots that Node trusts. */
  readonly caFile?: string | undefined;
  /** PEM file of the client's own certificate; goes with keyFile. */
  readonly certFile?: string | undefined;
  /** PEM file of the client's own key; goes with certFile. */
  readonly keyFile?: string | undefined;
  /** The name that the server's certificate must have. Default: the address's host. */
  readonly serverName?: string | undefined;
  /** Sent with every call as `authorization: Bearer TOKEN`. */
  readonly token?: string | undefined;
  /** Lets a token leave this machine without TLS. */
  readonly insecure?: boolean | undefined;
}

/** Checked options, with defaults in their places. */
export interface ClientSettings {
  readonly address: Address;
  readonly model: string;
  readonly options: ScoreOptions;
  readonly ordering: Ordering | undefined;
  readonly timeoutMs: number;
  readonly reconnectMs: number;
  readonly attempts: number;
  readonly tls: TlsSettings | undefined;
  readonly token: string | undefined;
}

/** How the connection is encrypted. */
export interface TlsSettings {
  readonly context: SecureContext;
  readonly serverName: string;
}

/**
 * Checks options and reads the files that they name.
 *
 * @throws RewardError - an option that cannot be; its field is the option's name.
 */
export function settingsOf(given: ClientOptions): ClientSettings {
  const address = parseAddress(given.address ?? "127.0.0.1:50051");
  const tls = tlsOf(given, address);
  if (given.token !== undefined) {
    checkToken(given.token, { staysHere: address.isLocal, isEncrypted: tls !== undefined, insecure: given.insecure ?? false });
  }
  const settings: ClientSettings = {
    address,
    model: given.model ?? "",
    options: given.options ?? {},
    ordering: given.ordering,
    timeoutMs: checkNumber(given.timeoutMs ?? 600_000, "timeoutMs"),
    reconnectMs: checkNumber(given.reconnectMs ?? 60_000, "reconnectMs"),
    attempts: checkNumber(given.attempts ?? 20, "attempts"),
    tls,
    token: given.token,
  };
  if (!Number.isInteger(settings.attempts) || settings.attempts < 1) {
    throw invalid("must be a whole number from 1", "attempts");
  }
  encodeOptions(settings.options);
  encodeOrdering(settings.ordering);
  return settings;
}

function tlsOf(given: ClientOptions, address: Address): TlsSettings | undefined {
  const { caFile, certFile, keyFile, serverName } = given;
  const isImplied = [caFile, certFile, keyFile, serverName].some((value) => value !== undefined);
  if (!(given.tls ?? isImplied)) {
    if (isImplied) {
      throw invalid("is off, and options are given that need it: leave them out, or leave out tls", "tls");
    }
    return undefined;
  }
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw invalid("is missing: a certificate and its key go together", certFile === undefined ? "certFile" : "keyFile");
  }
  const ca = readPem(caFile, "caFile");
  const cert = readPem(certFile, "certFile");
  const key = readPem(keyFile, "keyFile");
  checkPem({ ca }, "caFile");
  checkPem({ cert }, "certFile");
  return { context: checkPem({ ca, cert, key }, "keyFile"), serverName: serverName ?? address.host };
}

function readPem(path: string | undefined, field: string): string | undefined {
  if (path === undefined) {
    return undefined;
  }
  let pem: string;
  try {
    pem = readFileSync(path, "utf8");
  } catch (error) {
    throw invalid(`cannot be read: ${(error as Error).message}`, field, error);
  }
  if (!pem.includes("-----BEGIN ")) {
    throw invalid(`${path} is no PEM file`, field);
  }
  return pem;
}

function checkPem(pem: Record<string, string | undefined>, field: string): SecureContext {
  try {
    return createSecureContext({ ...pem, minVersion: "TLSv1.2" });
  } catch (error) {
    throw invalid(`cannot be used: ${(error as Error).message}`, field, error);
  }
}

function checkNumber(value: number, field: string): number {
  if (typeof value !== "number" || !(value >= 0)) {
    throw invalid(`must be a number that is not negative, not ${String(value)}`, field);
  }
  return value;
}
