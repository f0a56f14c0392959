"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from services.checkpoints import ARCHITECTURES, build_model, config_of, save_checkpoint
from services.server import ServerThread

from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.serve import Model, load_model


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
def classifier() -> Model:
    """The embedded classifier, loaded."""
    return load_model(ModelSettings(path="embedded:arithmetic-classifier"), ServerSettings())


@pytest.fixture(scope="session")
def logit() -> Model:
    """The embedded logit model, loaded."""
    return load_model(ModelSettings(path="embedded:arithmetic-logit"), ServerSettings())


@pytest.fixture(scope="session")
def server(classifier: Model, logit: Model) -> Iterator[ServerThread]:
    """A server of both embedded models, for tests that leave it as it was."""
    with ServerThread([classifier, logit]) as running:
        yield running
