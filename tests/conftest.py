"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services.checkpoints import ARCHITECTURES, build_model, config_of, save_checkpoint
from services.models import LocalModel, load_local
from services.server import ServerThread

from rm_grpc_server.config import ModelSettings


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A tiny checkpoint of every architecture with every head, by (architecture, head)."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        (architecture, head): save_checkpoint(root / architecture / head, build_model(config_of(architecture), head))
        for architecture in ARCHITECTURES
        for head in ("sequence_classification", "causal_lm")
    }


@pytest.fixture(scope="session")
def classifier() -> LocalModel:
    """The embedded classifier, loaded."""
    return load_local(ModelSettings(path="embedded:arithmetic-classifier"))


@pytest.fixture(scope="session")
def logit() -> LocalModel:
    """The embedded logit model, loaded."""
    return load_local(ModelSettings(path="embedded:arithmetic-logit"))


@pytest.fixture(scope="session")
def server(classifier: LocalModel, logit: LocalModel) -> Iterator[ServerThread]:
    """A server of both embedded models, for tests that leave it as it was."""
    with ServerThread([classifier, logit]) as running:
        yield running
