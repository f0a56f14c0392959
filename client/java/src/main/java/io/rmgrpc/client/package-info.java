/**
 * A client of the reward service: streams of conversations in, a score or a typed error for each out.
 *
 * <p>What the contract defines is used as it is generated: {@link io.rmgrpc.v1.Item}, {@link io.rmgrpc.v1.Score}, {@link
 * io.rmgrpc.v1.ModelInfo}. {@link io.rmgrpc.client.RewardClient} is where to begin.
 */
package io.rmgrpc.client;
