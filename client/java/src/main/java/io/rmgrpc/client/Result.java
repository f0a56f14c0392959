package io.rmgrpc.client;

import io.rmgrpc.v1.Score;

/** The one outcome of an item. */
public sealed interface Result {
  /** The item's id: the caller's, or the position where the item had none. */
  String id();

  /** The item's position on the stream, from 0. */
  long index();

  /**
   * The score.
   *
   * @throws RewardException the item's error, where it was not scored
   */
  Score score();

  /** The item was scored. */
  record Scored(String id, long index, Score score) implements Result {}

  /** The item was not scored. */
  record Failed(String id, long index, RewardException error) implements Result {
    @Override
    public Score score() {
      throw error;
    }
  }
}
