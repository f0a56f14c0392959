import type { RewardError } from "./errors.js";

/** A value that JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A JSON object. */
export type JsonObject = { [key: string]: Json };

/** What to do with a model's own control tokens that stand inside a message's content. */
export type ControlTokens = "refuse" | "as_text" | "allow";

/** What to do with chat markers of another model family inside a message's content. */
export type ForeignMarkers = "refuse" | "allow";

/** What is put around text that the caller rendered. */
export type SpecialTokens = "as_is" | "add";

/** A function applied to the raw score. */
export type Activation = "none" | "sigmoid";

/** The order of results: as they are ready, or as the items were sent. */
export type Ordering = "completion" | "submission";

/** How items are scored. What is left out is as the server has it: everything refused, nothing added or applied. */
export interface ScoreOptions {
  readonly controlTokens?: ControlTokens | undefined;
  readonly foreignMarkers?: ForeignMarkers | undefined;
  readonly specialTokens?: SpecialTokens | undefined;
  readonly activation?: Activation | undefined;
}

/** One piece of a message's content. */
export interface TextPart {
  readonly type?: "text" | undefined;
  readonly text: string;
}

/** A call of a tool by the assistant, in the OpenAI shape. */
export interface ToolCall {
  readonly id?: string | undefined;
  readonly type?: "function" | undefined;
  /** The function, with its arguments as JSON text. */
  readonly function: { readonly name: string; readonly arguments?: string | undefined };
}

/** One message of a conversation, in the OpenAI shape. */
export interface Message {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool" | (string & {});
  readonly content?: string | readonly TextPart[] | null | undefined;
  readonly name?: string | null | undefined;
  readonly tool_calls?: readonly ToolCall[] | null | undefined;
  readonly tool_call_id?: string | null | undefined;
  readonly reasoning_content?: string | null | undefined;
}

interface ItemFields {
  /** Comes back with the result; any text, used as often as the caller likes. The item's position where it is left out. */
  readonly id?: string | undefined;
  /** How long the answer is worth waiting for, instead of the client's timeout. */
  readonly timeoutMs?: number | undefined;
  /** Items of one group are likely to share a prompt; a hint that never changes a score. */
  readonly group?: string | undefined;
  /** Whatever a scorer may need beside the conversation. Not rendered. */
  readonly metadata?: JsonObject | undefined;
}

/** A conversation that ends with the response to score. The server renders it with the model's own chat template. */
export interface ConversationItem extends ItemFields {
  readonly messages: readonly Message[];
  /** JSON schemas of the tools, or the JSON text of such an array, which keeps integers and the order of keys as they are. */
  readonly tools?: readonly Json[] | string | undefined;
}

/** Text as the model should read it, already rendered. */
export interface TextItem extends ItemFields {
  readonly text: string;
}

/** Token ids as the model should read them. */
export interface TokensItem extends ItemFields {
  readonly tokens: {
    readonly ids: readonly number[] | Int32Array;
    /** Digest of the tokenizer that made them, as `ModelInfo.tokenizerDigest` tells it. */
    readonly tokenizerDigest: string;
  };
}

/** An item that the caller could not make: the error is its result, at its place and in its turn. */
export interface RefusedItem {
  readonly id?: string | undefined;
  readonly error: RewardError;
}

/** One thing to score. */
export type Item = ConversationItem | TextItem | TokensItem | RefusedItem;

/** What one call may have of its own. */
export interface CallOptions {
  /** Ends the call; it fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** How long each item, or a call without items, may take, instead of the client's timeout. */
  readonly timeoutMs?: number | undefined;
}

/** The score of one step of a response. */
export interface StepScore {
  readonly score: number;
  /** Position of the token that it was read at. */
  readonly tokenOffset: number;
  /** First character of the step in the response. */
  readonly charStart: number;
  /** One past the last character of the step in the response. */
  readonly charEnd: number;
}

/** Milliseconds that an item spent in each stage of the server. */
export interface Timing {
  readonly textQueueMs: number;
  readonly renderMs: number;
  readonly encodeMs: number;
  readonly queueMs: number;
  readonly forwardMs: number;
}

/** What the service says of an item that was scored. */
export interface Score {
  /** The number to use: the raw score after the activation that was asked for. */
  readonly score: number;
  /** The number that the model gives, a float32. */
  readonly rawScore: number;
  readonly activation: Activation;
  /** Named numbers, for models that give several. */
  readonly attributes: Readonly<Record<string, number>>;
  /** Scores of steps, for models that give them. */
  readonly steps: readonly StepScore[];
  /** How many tokens the model read. */
  readonly tokenCount: number;
  /** Whether turns of the conversation were dropped to make it fit. */
  readonly truncated: boolean;
  /** How many of the tokens were shared with other conversations instead of being computed again. */
  readonly sharedPrefixTokens: number;
  /** Digest of everything that makes this number: weights, tokenizer, template and settings. */
  readonly modelDigest: string;
  readonly timing: Timing;
}

/** The one outcome of an item: a score or an error. */
export type Result = {
  /** The item's id. */
  readonly id: string;
  /** The item's position in what the caller gave. */
  readonly index: number;
} & ({ readonly score: Score; readonly error?: undefined } | { readonly score?: undefined; readonly error: RewardError });

/** What a server takes from one caller. */
export interface Limits {
  /** Longest conversation, in tokens. */
  readonly maxLength: number;
  readonly maxMessageBytes: number;
  /** Most items in flight on one stream. */
  readonly windowItems: number;
  /** Most bytes of items in flight on one stream. */
  readonly windowBytes: number;
}

/** A served model, with all that its numbers depend on; the fields are those of the contract. */
export interface ModelInfo {
  readonly name: string;
  readonly source: string;
  readonly revision: string;
  readonly scorerKind: string;
  readonly architecture: string;
  readonly attributeNames: readonly string[];
  readonly dtype: string;
  readonly device: string;
  readonly modelDigest: string;
  readonly weightsDigest: string;
  readonly tokenizerDigest: string;
  readonly templateDigest: string;
  readonly encoder: string;
  readonly settingsJson: string;
  readonly settingsSource: string;
  readonly notes: readonly string[];
  readonly limits: Limits;
}

/** What a model would read for one item. */
export interface Tokenization {
  /** The rendered text; empty for an item of token ids. */
  readonly renderedText: string;
  readonly ids: readonly number[];
  /** How many of the leading ids are the beginning-of-sequence token. */
  readonly bosCount: number;
  readonly controlTokensInContent: readonly string[];
  readonly foreignMarkersInContent: readonly string[];
  /** Whether turns were dropped to make it fit. */
  readonly truncated: boolean;
  /** Positions that the scorer reads. */
  readonly readPositions: readonly number[];
}

/** The answer for one item: what would be read, the error that scoring would give, or both. */
export interface TokenizeResult {
  readonly id: string;
  readonly tokenization: Tokenization | undefined;
  readonly error: RewardError | undefined;
}
