import type { ConversationItem, Message } from "rm-grpc-client/browser";

import { addRow, find } from "./elements.js";

const messages = find(HTMLOListElement, "#messages");
const answers = find(HTMLOListElement, "#answers");

/** Fills the lists with an example, and lets the user change them. */
export function setUpTask(): void {
  addMessage("What is 12+30?");
  for (const text of ["12+30=42", "12+30=43", "Let me think about it."]) {
    addAnswer(text);
  }
  find(HTMLButtonElement, "#add-message").addEventListener("click", () => addMessage("").focus());
  find(HTMLButtonElement, "#add-answer").addEventListener("click", () => addAnswer("").focus());
  for (const list of [messages, answers]) {
    list.addEventListener("click", ({ target }) => {
      if (target instanceof HTMLElement && target.matches(".remove") && list.children.length > 1) {
        target.closest(".row")?.remove();
      }
    });
  }
}

/** The rows of the answers, and for each the conversation that ends with it. */
export function readTask(): { rows: HTMLElement[]; items: ConversationItem[] } {
  const before = rowsOf(messages).map((row): Message => ({
    role: find(HTMLSelectElement, ".role", row).value,
    content: textOf(row),
  }));
  const rows = rowsOf(answers);
  const items = rows.map((row) => ({ messages: [...before, { role: "assistant", content: textOf(row) }] }));
  return { rows, items };
}

function addMessage(text: string): HTMLTextAreaElement {
  return withText(addRow(messages, "#message-row"), text);
}

function addAnswer(text: string): HTMLTextAreaElement {
  return withText(addRow(answers, "#answer-row"), text);
}

function withText(row: HTMLElement, text: string): HTMLTextAreaElement {
  const area = find(HTMLTextAreaElement, "textarea", row);
  area.value = text;
  return area;
}

function textOf(row: HTMLElement): string {
  return find(HTMLTextAreaElement, "textarea", row).value;
}

function rowsOf(list: HTMLElement): HTMLElement[] {
  return Array.from(list.querySelectorAll<HTMLElement>(".row"));
}
