"""Servers in a Ray cluster: real Ray processes on this machine, with GPUs that are only counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rm_grpc_server.deploy.node import ServerNode
from rm_grpc_server.deploy.ray_cluster import deploy_on_ray, with_devices
from rm_grpc_server.errors import ConfigError, StartupError

SETTINGS = {"models": [{"path": "embedded:arithmetic-logit", "devices": "cpu"}]}

CLUSTER = """
import asyncio, json, os, signal, time
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table
from rm_grpc_client import RewardEnvironment
from rm_grpc_server.deploy import deploy_on_ray
from rm_grpc_server.errors import StartupError

SETTINGS = {"models": [{"path": "embedded:arithmetic-logit", "devices": "cpu"}]}
CHAT = [{"role": "user", "content": "What is 7+5?"}, {"role": "assistant", "content": "7+5=12"}]
told = {}

def free():
    return ray.available_resources().get("GPU", 0.0)

def until(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)

async def use(deployment):
    async with RewardEnvironment(deployment.addresses, timeout=120.0) as environment:
        rewards = await environment.rewards([CHAT] * 20)
        told["scores"] = sorted({round(reward.value, 4) for reward in rewards})
        before = deployment.addresses()
        pids = ray.get([actor.pid.remote() for actor in deployment._actors], timeout=30)
        os.kill(pids[0], signal.SIGKILL)  # a server: its actor starts it again, on the same port
        pending = [environment.submit(CHAT) for _ in range(50)]
        told["after a server died"] = len([await one for one in pending])
        await asyncio.to_thread(until, lambda: ray.get(deployment._actors[0].pid.remote(), timeout=30) != pids[0])
        told["same addresses"] = deployment.addresses() == before
        ray.kill(deployment._actors[1], no_restart=False)  # an actor: Ray starts it again, with a server of its own
        pending = [environment.submit(CHAT) for _ in range(50)]
        told["after an actor died"] = len([await one for one in pending])
        await asyncio.to_thread(until, lambda: len(deployment.addresses()) == 2 and set(deployment.addresses()) != set(before))
        before = deployment.addresses()
        cluster.remove_node(second, allow_graceful=False)  # a node with its actor and server: they come back on another
        pending = [environment.submit(CHAT) for _ in range(50)]
        told["after a node died"] = len([await one for one in pending])
        cluster.add_node(num_cpus=4, num_gpus=2)
        await asyncio.to_thread(until, lambda: len(deployment.addresses()) == 2 and set(deployment.addresses()) != set(before))
        rewards = await environment.rewards([CHAT] * 20)
        told["scores again"] = sorted({round(reward.value, 4) for reward in rewards})

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 2})
    second = cluster.add_node(num_cpus=4, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    told["free before"] = free()
    try:
        deploy_on_ray(SETTINGS, nodes=3, gpus_per_node=2, cpus_per_node=1, insecure=True, reserve_seconds=3)
    except StartupError as error:
        told["refused"] = str(error)
    deployment = deploy_on_ray(SETTINGS, nodes=2, gpus_per_node=2, cpus_per_node=1, insecure=True)
    until(lambda: free() == 0)
    told["free while it serves"] = free()
    asyncio.run(use(deployment))
    pids = ray.get([actor.pid.remote() for actor in deployment._actors], timeout=30)
    deployment.close()
    until(lambda: free() == 4)
    told["free at the end"] = free()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    told["groups left"] = [group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
    print(json.dumps(told))
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_holds_servers_brings_them_back_and_gets_its_gpus_back(tmp_path: Path) -> None:
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    env = {**os.environ, "HOME": str(tmp_path), "RAY_DEDUP_LOGS": "0", "RAY_raylet_start_wait_time_s": "60"}
    # add_node forks this script while it asks for rewards: with grpc's own handlers of forks the child sometimes dies.
    env["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=280, check=False, env=env)
    assert done.returncode == 0, done.stderr[-6000:]
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert (told["free before"], told["free while it serves"], told["free at the end"]) == (4, 0, 4)
    assert "cluster has no 3 nodes" in told["refused"]
    assert len(told["scores"]) == 1
    assert told["scores"] == told["scores again"]
    assert told["after a server died"] == told["after an actor died"] == told["after a node died"] == 50
    assert told["same addresses"]
    assert told["groups left"] == []


def test_devices_follow_from_the_gpus_of_a_replica() -> None:
    given = {"models": ["a/b", {"path": "c", "devices": "cpu"}], "queue_items": 7}
    assert with_devices(given, 2) == {
        "models": [{"devices": "auto 2 per replica", "path": "a/b"}, {"path": "c", "devices": "cpu"}],
        "queue_items": 7,
    }
    assert with_devices(given, 1)["models"][0] == {"path": "a/b"}


@pytest.mark.parametrize(
    ("settings", "asked", "told"),
    [
        ({}, {}, "models"),
        (SETTINGS, {"nodes": 0}, "gpus_per_node"),
        (SETTINGS, {"gpus_per_node": 3, "gpus_per_replica": 2}, "gpus_per_node"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_ray_is_asked(settings: Any, asked: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        deploy_on_ray(settings, **asked)


@pytest.mark.slow
def test_a_node_starts_its_server_again_on_the_same_port() -> None:
    node = ServerNode(SETTINGS, listen="127.0.0.1:0", start_seconds=120)
    try:
        address, pid = node.address, node.pid
        os.kill(pid, signal.SIGKILL)
        from rm_grpc_client import RewardClient

        with RewardClient(address, reconnect=120.0) as client:
            [score] = client.score([[{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]])
        assert score.token_count > 0
        assert node.pid != pid
        assert node.address == address
    finally:
        node.stop()
    assert not Path(f"/proc/{node.pid}").exists()


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(StartupError, match="no such setting"):
        ServerNode({**SETTINGS, "nonsense": 1}, listen="127.0.0.1:0", start_seconds=60)
