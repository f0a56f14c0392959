"""Reward servers in a Ray cluster, on GPUs that a placement group holds for them and for nobody else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rm_grpc_server.deploy.node import ServerNode
from rm_grpc_server.errors import ConfigError, StartupError

_LOG = logging.getLogger(__name__)
_ASK_SECONDS = 5.0
"""For a node to tell its address; one that does not is starting, or gone."""


class _Actor:
    """A `ServerNode` as a Ray actor: Ray starts it again when its process or its node dies."""

    def __init__(self, settings: Mapping[str, Any], insecure: bool, start_seconds: float) -> None:
        import ray

        logging.basicConfig(level=logging.INFO)
        host = ray.util.get_node_ip_address()
        given = {**settings, "insecure": True} if insecure else dict(settings)
        self._node = ServerNode(given, listen=f"{host}:0", start_seconds=start_seconds)

    def address(self) -> str:
        return self._node.address

    def pid(self) -> int:
        return self._node.pid

    def stop(self) -> None:
        self._node.stop()


class Deployment:
    """Servers in a cluster, until `close` or the end of the driver; use it with `with`.

    It may be sent to other actors of the cluster, which then find the servers by `addresses`.
    """

    def __init__(self, group: Any, actors: Sequence[Any]) -> None:
        self._group = group
        self._actors = list(actors)

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def addresses(self) -> list[str]:
        """host:port of each server that is there now.

        A reward environment takes this function itself (`RewardEnvironment(deployment.addresses)`), and so learns where a
        server went whose node died.
        """
        import ray

        asked = [actor.address.remote() for actor in self._actors]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_ASK_SECONDS)
        there = set(answered)
        return [address for one in asked if one in there and (address := _told(ray, one))]

    def close(self) -> None:
        """Lets the servers finish what they have accepted, ends them, and gives everything back to the cluster."""
        import ray

        ray.wait([actor.stop.remote() for actor in self._actors], num_returns=len(self._actors), timeout=90.0)
        for actor in self._actors:
            ray.kill(actor)
        ray.util.remove_placement_group(self._group)
        self._actors.clear()


def deploy_on_ray(
    settings: Mapping[str, Any],
    *,
    nodes: int = 1,
    gpus_per_node: int = 1,
    gpus_per_replica: int = 1,
    cpus_per_node: float = 4.0,
    insecure: bool = False,
    start_seconds: float = 3600.0,
    reserve_seconds: float = 300.0,
) -> Deployment:
    """Reserves GPUs in the Ray cluster of this driver, starts one server for each node in them, and waits until all serve.

    A trainer's own placement groups get none of these GPUs, and the servers see no others. What dies is started again: a
    replica by its server, a server by its actor, an actor by Ray, on another node where its own is gone.

    Args:
        settings: of each server, as its YAML file has them: at least `models`.
        nodes: how many servers, each on a node of its own.
        gpus_per_node: GPUs of each server.
        gpus_per_replica: GPUs of each replica of a model whose `devices` the settings do not give.
        cpus_per_node: CPUs that Ray counts for each server.
        insecure: whether the servers may listen on the nodes' own addresses without encryption.
        start_seconds: how long a server may take to load its models.
        reserve_seconds: how long to wait for the GPUs to be free.

    Raises:
        ConfigError: the request cannot be.
        StartupError: the cluster has no such GPUs free, or a server does not start.
    """
    if nodes < 1 or gpus_per_node < 0 or gpus_per_replica < 1 or (gpus_per_node and gpus_per_node % gpus_per_replica):
        raise ConfigError(
            f"gpus_per_node: {gpus_per_node} GPUs on {nodes} nodes cannot be split into {gpus_per_replica} a replica"
        )
    given = with_devices(settings, gpus_per_replica)
    ray = _ray()
    bundle = {"CPU": cpus_per_node, **({"GPU": gpus_per_node} if gpus_per_node else {})}
    group = ray.util.placement_group([bundle] * nodes, strategy="STRICT_SPREAD" if nodes > 1 else "PACK", name="rm-grpc")
    if not group.wait(reserve_seconds):
        free, there = ray.available_resources(), ray.cluster_resources()
        ray.util.remove_placement_group(group)
        raise StartupError(f"gpus_per_node: the cluster has no {nodes} nodes with {bundle} free; it has {free} of {there}")
    make = _actor_maker(ray, group, gpus_per_node, cpus_per_node)
    actors = [make(at, given, insecure, start_seconds) for at in range(nodes)]
    deployment = Deployment(group, actors)
    try:
        ray.get([actor.address.remote() for actor in actors])
    except ray.exceptions.RayError as error:
        deployment.close()
        raise StartupError(f"a server did not start: {error}") from error
    except BaseException:
        deployment.close()
        raise
    return deployment


def with_devices(settings: Mapping[str, Any], gpus_per_replica: int) -> dict[str, Any]:
    """The settings, with as many GPUs for each replica of a model that says nothing of its devices."""
    models = [{"path": model} if isinstance(model, str) else dict(model) for model in settings.get("models", ())]
    if not models:
        raise ConfigError("models: name at least one model to serve")
    if gpus_per_replica > 1:
        models = [{"devices": f"auto {gpus_per_replica} per replica", **model} for model in models]
    return {**settings, "models": models}


def _told(ray: Any, asked: Any) -> str:
    try:
        return str(ray.get(asked))
    except ray.exceptions.RayError as error:
        _LOG.warning("a server's node does not answer: %s", error)
        return ""


def _actor_maker(ray: Any, group: Any, gpus: int, cpus: float) -> Callable[..., Any]:
    actor = ray.remote(_Actor)

    def make(bundle: int, *arguments: Any) -> Any:
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
        placed = actor.options(num_gpus=gpus, num_cpus=cpus, max_restarts=-1, max_concurrency=4, scheduling_strategy=strategy)
        return placed.remote(*arguments)

    return make


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise ConfigError('Ray is not installed here; pip install "rm-grpc[ray]"') from error
    if not ray.is_initialized():
        ray.init(address="auto")
    return ray
