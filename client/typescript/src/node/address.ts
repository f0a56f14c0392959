import { invalid } from "../errors.js";
import { isLocalHost } from "../token.js";

/** Where a server is. */
export interface Address {
  /** As the caller wrote it. */
  readonly text: string;
  /** The host without brackets; localhost for a path. */
  readonly host: string;
  readonly port: number;
  /** The path of a Unix socket, instead of host and port. */
  readonly path: string | undefined;
  /** Whether it is on this machine. */
  readonly isLocal: boolean;
}

/**
 * Reads host:port, [IPv6]:port, or unix:PATH.
 *
 * @throws RewardError - it is none of these.
 */
export function parseAddress(text: string): Address {
  const unix = /^unix:(?:\/\/(?=\/))?(?<path>.+)$/.exec(text);
  if (unix?.groups?.["path"] !== undefined) {
    return { text, host: "localhost", port: 0, path: unix.groups["path"], isLocal: true };
  }
  const { bracketed, name, port } =
    /^(?:\[(?<bracketed>[\da-fA-F:.]+)\]|(?<name>[\w.-]+)):(?<port>\d{1,5})$/.exec(text)?.groups ?? {};
  const host = bracketed ?? name;
  if (host === undefined || Number(port) > 65_535) {
    throw invalid(`must be host:port, [IPv6]:port or unix:PATH, not ${JSON.stringify(text)}`, "address");
  }
  return { text, host, port: Number(port), path: undefined, isLocal: isLocalHost(host) };
}
