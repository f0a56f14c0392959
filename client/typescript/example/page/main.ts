import { find } from "./elements.js";
import { showError } from "./errors.js";
import { Outcomes } from "./outcomes.js";
import { chosenClient, setUpServer } from "./server.js";
import { readTask, setUpTask } from "./task.js";

const score = find(HTMLButtonElement, "#score");
const stop = find(HTMLButtonElement, "#stop");
const progress = find(HTMLParagraphElement, "#progress");

setUpTask();
setUpServer((isReady) => (score.disabled = !isReady));
find(HTMLFormElement, "#task").addEventListener("submit", (event) => {
  event.preventDefault();
  void scoreAnswers();
});

async function scoreAnswers(): Promise<void> {
  const { rows, items } = readTask();
  const outcomes = new Outcomes(rows);
  const controller = new AbortController();
  stop.onclick = () => controller.abort();
  showError("#task-error", undefined);
  setBusy(true);
  let done = 0;
  const tell = (): void => void (progress.textContent = `${done} of ${items.length} answers have a result`);
  tell();
  try {
    for await (const result of chosenClient().scoreEach(items, { signal: controller.signal })) {
      outcomes.show(result);
      done += 1;
      tell();
    }
  } catch (error) {
    if (!controller.signal.aborted) {
      showError("#task-error", error);
    }
  } finally {
    outcomes.finish();
    setBusy(false);
  }
}

function setBusy(isBusy: boolean): void {
  score.disabled = isBusy;
  stop.hidden = !isBusy;
}
