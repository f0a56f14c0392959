import type { Result } from "./types.js";

/** Gives results in the order of submission, and holds back those whose turn has not come. */
export class SubmissionOrder {
  readonly #held = new Map<number, Result>();
  #next = 0;

  /** How many results are held back. */
  get held(): number {
    return this.#held.size;
  }

  /** The results whose turn it is, now that these are there too. */
  take(results: readonly Result[]): Result[] {
    for (const result of results) {
      this.#held.set(result.index, result);
    }
    const due: Result[] = [];
    let result: Result | undefined;
    while ((result = this.#held.get(this.#next)) !== undefined) {
      this.#held.delete(this.#next);
      this.#next += 1;
      due.push(result);
    }
    return due;
  }
}
