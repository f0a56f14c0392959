"""What only a GPU can show: the variable-length kernel, the streams, and a replica that owns a device.

`make test-gpu` runs these and nothing else; without a GPU they are skipped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from services.checkpoints import ARCHITECTURES
from services.models import load_local
from services.pools import Notes, entry, until

from rm_grpc.types import Verdict
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import Claims
from rm_grpc_server.opening import open_model
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.text.encoding import TokenArray

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
Folders = dict[tuple[str, str], Path]
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.15}


def group(answers: int = 8) -> list[TokenArray]:
    """Answers to one prompt, the prompt itself, and strangers; far longer than the tiny models' windows."""
    generator = np.random.default_rng(answers)
    prompt, stranger = (generator.integers(5, 1000, length, dtype=np.int32) for length in (120, 33))
    tails = [generator.integers(5, 1000, 7 * at, dtype=np.int32) for at in range(answers)]
    return [np.concatenate([prompt, tail]) for tail in tails] + [prompt, stranger, stranger[:1]]


def load(folders: Folders, architecture: str, **changes: Any) -> Any:
    values = {"path": str(folders[architecture, "sequence_classification"]), "devices": "cuda:0", **changes}
    return load_local(ModelSettings.model_validate(values), packing=changes.pop("packing", None))


def scores(model: Any, conversations: list[TokenArray]) -> list[float]:
    return [outcome.raw_score for outcome in model.outcomes(conversations) if isinstance(outcome, Verdict)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tries_score_as_their_conversations_alone(checkpoint_folder: Folders, architecture: str, dtype: str) -> None:
    model = load(checkpoint_folder, architecture, dtype=dtype)
    assert (model.packed.scorer.backbone._kernel == "varlen") == (dtype == "bfloat16" and architecture != "gemma2")
    conversations = group()
    expected = [model.reference(ids) for ids in conversations]
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(scores(model, conversations), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stored_prefixes(checkpoint_folder: Folders, dtype: str) -> None:
    settings = ModelSettings(path=str(checkpoint_folder["mistral", "sequence_classification"]), devices="cuda:0", dtype=dtype)
    model = load_local(settings, packing=Packing(stored_prefix_bytes=50_000_000))
    conversations = group()
    expected = [model.reference(ids) for ids in conversations]
    for _ in range(2):
        np.testing.assert_allclose(scores(model, conversations), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_do_not_depend_on_neighbours(checkpoint_folder: Folders, dtype: str) -> None:
    settings = ModelSettings(path=str(checkpoint_folder["llama", "sequence_classification"]), devices="cuda:0", dtype=dtype)
    model = load_local(settings, packing=Packing(share=False, fixed_tokens=512))
    generator = np.random.default_rng(0)
    conversations = [generator.integers(5, 1000, length, dtype=np.int32) for length in (5, 30, 60, 11, 90, 200)]
    alone = [scores(model, [ids])[0] for ids in conversations]
    for _ in range(5):
        order = generator.permutation(len(conversations))
        assert scores(model, [conversations[at] for at in order]) == [alone[at] for at in order]


def test_a_replica_process_scores_streams_of_batches(checkpoint_folder: Folders) -> None:
    folder = checkpoint_folder["llama", "sequence_classification"]
    local = load_local(ModelSettings(path=str(folder)))
    batches = [group(1 + at % 8) for at in range(40)]

    async def run() -> Notes:
        model = await open_model(ModelSettings(path=str(folder), devices="cuda:0"), ServerSettings(), Claims())
        assert model.info.device == "cuda:0"
        notes = Notes()
        model.pool.work_for(notes)
        try:
            for batch in batches:
                await until(model.pool.place_with_room)
                place = model.pool.place_with_room()
                assert place is not None
                model.pool.send(place, [entry(*ids.tolist()) for ids in batch])
            await until(lambda: len(notes.done) == len(batches))
        finally:
            await model.pool.close()
        return notes

    notes = asyncio.run(run())
    for entries, result, _ in notes.done:
        found = [outcome.raw_score for outcome in result.outcomes if isinstance(outcome, Verdict)]
        np.testing.assert_allclose(found, [local.reference(one.ids) for one in entries], atol=1e-4, rtol=1e-4)


def test_a_device_is_claimed_once(checkpoint_folder: Folders, tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    first.claim(["cuda:0"])
    settings = ModelSettings(path=str(checkpoint_folder["llama", "sequence_classification"]), devices="cuda:0")
    with pytest.raises(Exception, match="taken by another rm-grpc server"):
        asyncio.run(open_model(settings, ServerSettings(), second))
