import { RewardError } from "rm-grpc-client/browser";

import { find } from "./elements.js";

/** What an error is, and what it says. */
export function describe(error: unknown): { readonly title: string; readonly text: string } {
  if (!(error instanceof RewardError)) {
    return { title: "Error", text: error instanceof Error ? error.message : String(error) };
  }
  const { code, reason, field, message, retryDelayMs } = error;
  const title = reason === code ? code : `${code}, ${reason}`;
  const place = field === "" ? "" : `${field}: `;
  const again = retryDelayMs === undefined ? "" : ` Try again in ${retryDelayMs / 1000} s.`;
  return { title, text: `${place}${message}${again}` };
}

/** Shows an error in a place of the page, or takes it away. */
export function showError(selector: string, error: unknown): void {
  const place = find(HTMLParagraphElement, selector);
  place.hidden = error === undefined;
  place.replaceChildren();
  if (error !== undefined) {
    const { title, text } = describe(error);
    const strong = document.createElement("strong");
    strong.textContent = title;
    place.append(strong, ` ${text}`);
  }
}
