import type { Result, Score } from "rm-grpc-client/browser";

import { find } from "./elements.js";
import { describe } from "./errors.js";

type State = "none" | "waiting" | "scored" | "best" | "failed";

/** Results of the answers' rows, as they come. */
export class Outcomes {
  readonly #rows: readonly HTMLElement[];
  readonly #scores = new Map<HTMLElement, Score>();

  constructor(rows: readonly HTMLElement[]) {
    this.#rows = rows;
    for (const row of rows) {
      show(row, "waiting", "waiting");
    }
  }

  /** Shows a result at its answer. */
  show({ index, score, error }: Result): void {
    const row = this.#rows[index];
    if (row === undefined) {
      return;
    }
    if (score === undefined) {
      const { title, text } = describe(error);
      show(row, "failed", title, text);
      return;
    }
    const attributes = Object.entries(score.attributes).map(([name, value]) => `, ${name} ${value.toFixed(3)}`);
    show(row, "scored", score.score.toFixed(3), `${score.tokenCount} tokens${attributes.join("")}`);
    this.#scores.set(row, score);
    this.#compare();
  }

  /** Marks the best, and takes back what never came. */
  finish(): void {
    const best = Math.max(...Array.from(this.#scores.values(), ({ score }) => score));
    for (const row of this.#rows) {
      const { dataset } = outcomeOf(row);
      if (dataset["state"] === "waiting") {
        show(row, "none", "");
      } else if (this.#scores.size > 1 && this.#scores.get(row)?.score === best) {
        dataset["state"] = "best" satisfies State;
      }
    }
  }

  /** Draws each score between the lowest and the highest so far. */
  #compare(): void {
    const scores = Array.from(this.#scores.values(), ({ score }) => score);
    const [lowest, highest] = [Math.min(...scores), Math.max(...scores)];
    for (const [row, { score }] of this.#scores) {
      const meter = find(HTMLMeterElement, "meter", row);
      meter.hidden = scores.length < 2;
      meter.value = highest === lowest ? 1 : (score - lowest) / (highest - lowest);
      meter.setAttribute("aria-label", `between ${lowest.toFixed(3)} and ${highest.toFixed(3)}`);
    }
  }
}

function show(row: HTMLElement, state: State, said: string, facts = ""): void {
  outcomeOf(row).dataset["state"] = state;
  find(HTMLOutputElement, "output", row).textContent = said;
  find(HTMLSpanElement, ".facts", row).textContent = facts;
  find(HTMLMeterElement, "meter", row).hidden = true;
}

function outcomeOf(row: HTMLElement): HTMLElement {
  return find(HTMLDivElement, ".outcome", row);
}
