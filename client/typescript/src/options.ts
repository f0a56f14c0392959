import { type MessageInitShape } from "@bufbuild/protobuf";

import { invalid } from "./errors.js";
import { Ordering as OrderingValue } from "./gen/rm_grpc/v1/reward_service_pb.js";
import {
  Activation as ActivationValue,
  ControlTokens as ControlTokensValue,
  ForeignMarkers as ForeignMarkersValue,
  type ScoreOptionsSchema,
  SpecialTokens as SpecialTokensValue,
} from "./gen/rm_grpc/v1/score_pb.js";
import type { Activation, ControlTokens, ForeignMarkers, Ordering, ScoreOptions, SpecialTokens } from "./types.js";

const CONTROL_TOKENS: Record<ControlTokens, ControlTokensValue> = {
  refuse: ControlTokensValue.REFUSE,
  as_text: ControlTokensValue.AS_TEXT,
  allow: ControlTokensValue.ALLOW,
};
const FOREIGN_MARKERS: Record<ForeignMarkers, ForeignMarkersValue> = {
  refuse: ForeignMarkersValue.REFUSE,
  allow: ForeignMarkersValue.ALLOW,
};
const SPECIAL_TOKENS: Record<SpecialTokens, SpecialTokensValue> = {
  as_is: SpecialTokensValue.AS_IS,
  add: SpecialTokensValue.ADD,
};
const ACTIVATION: Record<Activation, ActivationValue> = {
  none: ActivationValue.NONE,
  sigmoid: ActivationValue.SIGMOID,
};
const ORDERING: Record<Ordering, OrderingValue> = {
  completion: OrderingValue.COMPLETION,
  submission: OrderingValue.SUBMISSION,
};

/**
 * Options as a message.
 *
 * @throws RewardError - a value that there is not; its field names the option.
 */
export function encodeOptions(options: ScoreOptions): MessageInitShape<typeof ScoreOptionsSchema> {
  return {
    controlTokens: chosen(CONTROL_TOKENS, options.controlTokens, "options.controlTokens") ?? ControlTokensValue.UNSPECIFIED,
    foreignMarkers: chosen(FOREIGN_MARKERS, options.foreignMarkers, "options.foreignMarkers") ?? ForeignMarkersValue.UNSPECIFIED,
    specialTokens: chosen(SPECIAL_TOKENS, options.specialTokens, "options.specialTokens") ?? SpecialTokensValue.UNSPECIFIED,
    activation: chosen(ACTIVATION, options.activation, "options.activation") ?? ActivationValue.UNSPECIFIED,
  };
}

/**
 * An ordering as it is sent.
 *
 * @throws RewardError - there is none of that name.
 */
export function encodeOrdering(ordering: Ordering | undefined): OrderingValue {
  return chosen(ORDERING, ordering, "ordering") ?? OrderingValue.UNSPECIFIED;
}

/** The name of an activation; one that this client does not know has none. */
export function activationOf(value: ActivationValue): Activation {
  return value === ActivationValue.SIGMOID ? "sigmoid" : "none";
}

function chosen<V>(table: Readonly<Record<string, V>>, name: string | undefined, field: string): V | undefined {
  if (name === undefined) {
    return undefined;
  }
  if (!Object.hasOwn(table, name)) {
    throw invalid(`must be one of ${Object.keys(table).join(", ")}, not ${JSON.stringify(name)}`, field);
  }
  return table[name];
}
