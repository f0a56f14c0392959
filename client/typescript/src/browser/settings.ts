import { invalid } from "../errors.js";
import { encodeOptions } from "../options.js";
import { checkToken, isLocalHost } from "../token.js";
import type { ScoreOptions } from "../types.js";

/** What a client for browsers is made with. */
export interface ClientOptions {
  /** URL of the server's HTTP port, for example `http://127.0.0.1:8000`. */
  readonly baseUrl: string;
  /** The model to ask; may be left out where the server serves only one. */
  readonly model?: string | undefined;
  /** How items are scored. */
  readonly options?: ScoreOptions | undefined;
  /** How long each item may take; Infinity waits for ever. Default 600,000 (10 minutes). */
  readonly timeoutMs?: number | undefined;
  /** Sent with every call as `authorization: Bearer TOKEN`. */
  readonly token?: string | undefined;
  /** Lets a token leave this machine without TLS. */
  readonly insecure?: boolean | undefined;
  /** How messages travel: binary (the default), or json, which developer tools can show. */
  readonly format?: "binary" | "json" | undefined;
  /** Makes the requests, instead of the global fetch. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/** Checked options, with defaults in their places. */
export type ClientSettings = Required<Pick<ClientOptions, "baseUrl" | "format">> &
  Pick<ClientOptions, "token" | "fetch"> & {
    readonly model: string;
    readonly options: ScoreOptions;
    readonly timeoutMs: number;
  };

/**
 * Checks options.
 *
 * @throws RewardError - an option that cannot be; its field is the option's name.
 */
export function settingsOf(given: ClientOptions): ClientSettings {
  const url = urlOf(given.baseUrl);
  const { token, fetch, format = "binary", model = "", options = {}, timeoutMs = 600_000, insecure = false } = given;
  if (token !== undefined) {
    checkToken(token, {
      staysHere: isLocalHost(url.hostname.replace(/^\[|\]$/g, "")),
      isEncrypted: url.protocol === "https:",
      insecure,
    });
  }
  if (format !== "binary" && format !== "json") {
    throw invalid(`must be binary or json, not ${JSON.stringify(format)}`, "format");
  }
  if (typeof timeoutMs !== "number" || !(timeoutMs >= 0)) {
    throw invalid(`must be a number that is not negative, not ${String(timeoutMs)}`, "timeoutMs");
  }
  encodeOptions(options);
  return { baseUrl: url.href.replace(/\/+$/, ""), model, options, timeoutMs, format, token, fetch };
}

function urlOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain =
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    url.search === "" &&
    url.hash === "" &&
    url.username === "" &&
    url.password === "";
  if (!isPlain) {
    throw invalid("must be an http or https URL without user, query and fragment, such as http://127.0.0.1:8000", "baseUrl");
  }
  return url;
}
