/** An element of the page or of a row, of the class that it must have. */
export function find<E extends Element>(kind: new () => E, selector: string, within: ParentNode = document): E {
  const found = within.querySelector(selector);
  if (!(found instanceof kind)) {
    throw new Error(`the page has no ${kind.name} at ${selector}`);
  }
  return found;
}

/** A new row from a template, at the end of a list. */
export function addRow(list: HTMLElement, template: string): HTMLElement {
  const row = find(HTMLTemplateElement, template).content.firstElementChild?.cloneNode(true);
  if (!(row instanceof HTMLElement)) {
    throw new Error(`${template} is empty`);
  }
  list.append(row);
  return row;
}
