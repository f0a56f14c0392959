import type { Interceptor } from "@connectrpc/connect";

import { invalid } from "./errors.js";

/** Whether a host is this machine. */
export function isLocalHost(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * Checks that a token can be sent, and does not leave the machine in the clear unless the caller says so.
 *
 * @throws RewardError - it cannot or would; the token is not in the error.
 */
export function checkToken(
  token: string,
  where: { readonly staysHere: boolean; readonly isEncrypted: boolean; readonly insecure: boolean },
): void {
  if (typeof token !== "string" || !/^[\x21-\x7e]+$/.test(token)) {
    throw invalid("must be visible ASCII characters without spaces, as a header has them", "token");
  }
  if (!where.staysHere && !where.isEncrypted && !where.insecure) {
    throw invalid("would leave this machine without TLS: use TLS, or set insecure where the network is trusted", "token");
  }
}

/** Sends the token with every call. */
export function bearing(token: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}
