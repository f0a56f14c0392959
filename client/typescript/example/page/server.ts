import { type ModelInfo, RewardClient } from "rm-grpc-client/browser";

import { find } from "./elements.js";
import { showError } from "./errors.js";

const model = find(HTMLSelectElement, "#model");
const facts = find(HTMLParagraphElement, "#model-facts");
let models: readonly ModelInfo[] = [];

/** A client of the server and the model that are chosen. */
export function chosenClient(): RewardClient {
  return new RewardClient({
    baseUrl: find(HTMLInputElement, "#url").value,
    token: find(HTMLInputElement, "#token").value || undefined,
    model: model.value,
  });
}

/** Lets the user connect, and tells whether there is a model to ask. */
export function setUpServer(changed: (isReady: boolean) => void): void {
  model.addEventListener("change", showFacts);
  find(HTMLFormElement, "#server").addEventListener("submit", (event) => {
    event.preventDefault();
    void connect(changed);
  });
}

async function connect(changed: (isReady: boolean) => void): Promise<void> {
  showError("#server-error", undefined);
  try {
    models = await chosenClient().listModels({ timeoutMs: 10_000 });
  } catch (error) {
    models = [];
    showError("#server-error", error);
  }
  model.replaceChildren(...models.map(({ name }) => new Option(name)));
  model.disabled = models.length === 0;
  if (models.length === 0) {
    model.append(new Option("Connect first", ""));
  }
  showFacts();
  changed(models.length > 0);
}

function showFacts(): void {
  const info = models.find(({ name }) => name === model.value);
  facts.textContent =
    info === undefined ? "" : `${info.architecture}, ${info.dtype} on ${info.device}, up to ${info.limits.maxLength} tokens`;
}
