export { RewardClient } from "./client.js";
export type { ClientOptions } from "./settings.js";
export { type Code, type Reason, RewardError } from "../errors.js";
export type * from "../types.js";
