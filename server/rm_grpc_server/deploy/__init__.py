"""Servers in a trainer's cluster."""

from rm_grpc_server.deploy.ray_cluster import Deployment, deploy_on_ray

__all__ = ["Deployment", "deploy_on_ray"]
