/** Wakes those who wait, that they may look again at what they wait for. */
export class Condition {
  #waiting: (() => void)[] = [];

  /** Waits for the next notification. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Wakes all who wait now. */
  notify(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) {
      wake();
    }
  }
}
