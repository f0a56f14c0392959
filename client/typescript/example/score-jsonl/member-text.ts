/** Strings, punctuation, and what else stands between: numbers and names. */
const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g;

/** The text of a member's value as it stands in an object's JSON text, the last one's if there are several. The text must be JSON. */
export function memberText(json: string, name: string): string | undefined {
  let depth = 0;
  let key: string | undefined;
  let start: number | undefined;
  let found: string | undefined;
  for (const { 0: token, index } of json.matchAll(TOKENS)) {
    const endsMember = depth === 1 && (token === "," || token === "}");
    if (endsMember && start !== undefined) {
      if (key === name) {
        found = json.slice(start, index).trim();
      }
      key = start = undefined;
    } else if (depth === 1 && key === undefined && token.startsWith('"')) {
      key = JSON.parse(token) as string;
    } else if (depth === 1 && start === undefined && token === ":") {
      start = index + 1;
    }
    if (token === "{" || token === "[") {
      depth += 1;
    } else if (token === "}" || token === "]") {
      depth -= 1;
    }
  }
  return found;
}
