import { readFileSync } from "node:fs";
import { type ParseArgsConfig, parseArgs } from "node:util";

import { type ClientOptions, type ScoreOptions } from "rm-grpc-client";

const VALUE = { type: "string" } as const;
const FLAGS = {
  address: VALUE,
  model: VALUE,
  ordering: VALUE,
  timeout: VALUE,
  reconnect: VALUE,
  attempts: VALUE,
  tls: { type: "boolean" },
  "ca-file": VALUE,
  "cert-file": VALUE,
  "key-file": VALUE,
  "server-name": VALUE,
  "token-file": VALUE,
  insecure: { type: "boolean" },
  "control-tokens": VALUE,
  "foreign-markers": VALUE,
  "special-tokens": VALUE,
  activation: VALUE,
} as const satisfies ParseArgsConfig["options"];

/**
 * The client's options from the command line. The token comes from a file or the environment: other users of the machine can see
 * arguments.
 *
 * @throws Error - a flag that there is not, or a value that cannot be.
 */
export function optionsOf(args: string[], env: NodeJS.ProcessEnv): ClientOptions {
  const { values } = parseArgs({ args, options: FLAGS, strict: true, allowPositionals: false });
  return {
    address: values.address,
    model: values.model,
    ordering: values.ordering as ClientOptions["ordering"],
    timeoutMs: seconds(values.timeout, "timeout"),
    reconnectMs: seconds(values.reconnect, "reconnect"),
    attempts: number(values.attempts, "attempts"),
    tls: values.tls,
    caFile: values["ca-file"],
    certFile: values["cert-file"],
    keyFile: values["key-file"],
    serverName: values["server-name"],
    token: tokenOf(values["token-file"], env["RM_GRPC_CLIENT_TOKEN"]),
    insecure: values.insecure,
    options: {
      controlTokens: values["control-tokens"],
      foreignMarkers: values["foreign-markers"],
      specialTokens: values["special-tokens"],
      activation: values.activation,
    } as ScoreOptions, // the client checks the names
  };
}

/** The flag of an option, by which a message about it makes sense on the command line. */
export function flagOf(field: string): string {
  const name = field.replace(/^options\./, "").replace(/Ms$/, "");
  return `--${name === "token" ? "token-file" : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function tokenOf(file: string | undefined, token: string | undefined): string | undefined {
  const given = file === undefined ? token : readFileSync(file, "utf8");
  return given?.trim() || undefined;
}

function seconds(text: string | undefined, flag: string): number | undefined {
  const value = number(text, flag);
  return value === undefined ? undefined : value * 1000;
}

function number(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) {
    return undefined;
  }
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isNaN(value)) {
    throw new Error(`--${flag} must be a number, not ${JSON.stringify(text)}`);
  }
  return value;
}
