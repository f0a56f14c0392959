const NEWLINE = 0x0a;

/** The lines of a stream of bytes, each as soon as it is there. Only a newline ends one: JSON text may hold other separators. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  let parts: Uint8Array[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    let end: number;
    while ((end = chunk.indexOf(NEWLINE, start)) !== -1) {
      const rest = chunk.subarray(start, end);
      yield parts.length === 0 ? rest : Buffer.concat([...parts, rest]);
      parts = [];
      start = end + 1;
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start));
    }
  }
  if (parts.length > 0) {
    yield Buffer.concat(parts);
  }
}
