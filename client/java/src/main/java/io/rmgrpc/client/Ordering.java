package io.rmgrpc.client;

/** The order in which a stream gives its results. */
public enum Ordering {
  /** As results are ready. */
  COMPLETION,
  /** As items were sent; a slow item holds back those after it. */
  SUBMISSION
}
