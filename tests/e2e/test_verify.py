"""`rm-grpc verify`, run as a person runs it: right models pass, and every kind of wrong one fails."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from services import command as command_line
from services.command import write
from services.models import LocalModel, WrappedScorer, load_local, with_scorer
from services.published import pairwise, process_heads
from services.server import ServerThread

from rm_grpc.types import Verdict
from rm_grpc_server.config import ModelSettings
from rm_grpc_server.models.checkpoint import open_checkpoint
from rm_grpc_server.scoring.protocols import BatchOutcome

LINES: list[dict[str, Any]] = [
    {"id": "right", "group": "pears", "prompt": "Tom has 7 pears and eats 2. How many are left?", "response": "7 - 2 = 5"},
    {"id": "wrong", "group": "pears", "prompt": "Tom has 7 pears and eats 2. How many are left?", "response": "7 - 2 = 6"},
    {"id": "long", "prompt": "Count.", "response": "12 - 4 = 8. " * 20},
    {"id": "turns", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ünïcödé 🙂"}]},
]


command = partial(command_line.command, "verify", timeout=280)


@pytest.fixture
def probes(tmp_path: Path) -> str:
    return str(write(tmp_path / "probes.jsonl", LINES))


def copied(folder: Path) -> Path:
    """The embedded logit model's files, to change them."""
    shutil.copytree(open_checkpoint("embedded:arithmetic-logit").folder, folder)
    return folder


def configured(
    folder: Path, path: Path, *, text: dict[str, Any] | None = None, scorer: dict[str, Any] | None = None
) -> list[str]:
    """Flags for a model of a folder, under the embedded model's name and with its settings, or with others."""
    model = {
        "path": str(path),
        "name": "arithmetic-logit",
        "text": {"bos": "single", "max_length": 1024, **(text or {})},
        "scorer": scorer or {"kind": "token_logit", "token_ids": [0]},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"models": [model]}))
    return ["--config", str(config)]


# --- right ones pass --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_embedded_model_passes_in_both_dtypes(tmp_path: Path) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    done = command("--model", "embedded:arithmetic-classifier", "--json", str(out), "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    assert "PASSED: float32 within 1e-05 of the naive path" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = json.loads(out.read_text())
    assert told["passed"]
    assert set(told["dtypes"]) == {"float32", "bfloat16"}
    exact, rough = told["dtypes"]["float32"], told["dtypes"]["bfloat16"]
    assert exact["differences"]["score"]["count"] == 42
    assert 0 < exact["differences"]["score"]["measure"] < 1e-5 < rough["differences"]["score"]["measure"] < 0.1
    assert exact["order"]["swapped"] == 0
    assert {one["company"]: one["rounds"] for one in exact["company"]} == {"together": 1, "shuffled": 3, "siblings": 1}
    # The served scores stray from the float32 truth about as far as the naive ones of the same dtype do.
    assert rough["rounding"]["served"]["mean"] < 3 * rough["rounding"]["naive"]["mean"]
    known = [row for row in told["known_scores"] if row["dtype"] == "float32"]
    assert [(row["name"], row["source"], row["within"]) for row in known] == [
        ("sum-right", "this package", True),
        ("sum-wrong", "this package", True),
    ]
    assert max(abs(row["difference"]) for row in known) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("head", ["sequence_classification", "causal_lm"])
def test_a_checkpoint_passes_and_its_refusals_are_told(
    tmp_path: Path, checkpoint_folder: dict[tuple[str, str], Path], head: str
) -> None:
    """Sliding windows and softcaps, attributes or weights, a short context and no system message."""
    model: dict[str, Any] = {"path": str(checkpoint_folder["gemma2", head]), "name": "tiny", "replicas": 2}
    model["text"] = {"system_prompt": "forbidden"}
    if head == "causal_lm":
        model["scorer"] = {"kind": "token_logit", "token_ids": [0, 7], "weights": [1.0, -0.5], "normalize": "pair_softmax"}
    else:
        model["scorer"] = {"kind": "sequence_classification", "attributes": ["quality"]}
    config, out = tmp_path / "config.yaml", tmp_path / "out.json"
    config.write_text(yaml.safe_dump({"fill_batch_tokens": 256, "models": [model, {"path": "embedded:arithmetic-logit"}]}))
    dtypes = ["float32"] if head == "causal_lm" else ["float32", "bfloat16"]
    flags = ["--config", str(config), "--model", "tiny", "--shuffles", "1", "--json", str(out)]
    done = command(*flags, *(f"--dtype={dtype}" for dtype in dtypes))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "system-short: TEMPLATE_REFUSED" in done.stdout
    told = json.loads(out.read_text())
    assert list(told["dtypes"]) == dtypes
    for found in told["dtypes"].values():
        refused = {one["name"]: one["reason"] for one in found["refused"]}
        assert refused["system-terse"] == "TEMPLATE_REFUSED"
        assert refused["longest"] == "CONVERSATION_TOO_LONG"
        assert len(found["conversations"]) + len(refused) == 40
        assert set(found["differences"]) == ({"score"} if head == "causal_lm" else {"score", "attribute quality"})


@pytest.mark.slow
def test_rounding_is_told_from_a_fault_by_double_precision(tmp_path: Path, probes: str) -> None:
    """The score is a small difference of large numbers: neither path can compute it to 1e-5 in float32."""
    folder = copied(tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    head = weights["lm_head.weight"].clone()
    head[7] = head[0] * 1.001
    save_file({**weights, "lm_head.weight": head}, file, metadata={"format": "pt"})
    scorer = {"kind": "token_logit", "token_ids": [0, 7], "weights": [-100.0, 100.0]}
    out = tmp_path / "out.json"
    flags = ["--probes", probes, "--dtype", "float32", "--json", str(out)]
    done = command(*configured(tmp_path, folder, scorer=scorer), *flags)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "from double precision" in " ".join(done.stdout.split())
    found = json.loads(out.read_text())["dtypes"]["float32"]
    assert 1e-5 < found["differences"]["score"]["measure"] <= found["allowed"]["score"] < 1e-3
    assert found["allowed"]["score"] == pytest.approx(3 * found["own_rounding"]["score"]["measure"])


@pytest.mark.slow
def test_a_deterministic_model_does_not_move(tmp_path: Path, probes: str) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "out.json"
    config.write_text(yaml.safe_dump({"models": [{"path": "embedded:arithmetic-logit", "deterministic": True}]}))
    done = command("--config", str(config), "--dtype", "float32", "--probes", probes, "--json", str(out))
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_text())["dtypes"]["float32"]
    assert (found["deterministic"], found["spread"]) == (True, 0.0)


KINDS: dict[str, tuple[str, set[str]]] = {
    "qwen-math-prm": ("Qwen/Qwen2.5-Math-PRM-7B", {"score", "step scores"}),
    "rlhflow-pair-preference": (
        "RLHFlow/pair-preference-model-LLaMA3-8B",
        {"score", "attribute first_order", "attribute second_order", "attribute swap_inconsistent"},
    ),
    "pairrm": (
        "llm-blender/PairRM-hf",
        {"score", "attribute first_order", "attribute second_order", "attribute swap_inconsistent"},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_with_steps_with_several_parts_and_of_encoders_pass(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "probes.jsonl", [{**line, "metadata": {"rival": "I do not know."}} for line in LINES])
    families = {family.name: family for family in (*process_heads.FAMILIES, *pairwise.FAMILIES)}
    preset, quantities = KINDS[name]
    (tmp_path / "model").mkdir()
    model = {"path": str(families[name].save(tmp_path / "model")), "preset": preset, "name": name}
    config, out = tmp_path / "config.yaml", tmp_path / "out.json"
    config.write_text(yaml.safe_dump({"models": [model]}))
    with ServerThread([load_local(ModelSettings.model_validate(model))]) as running:
        done = command("--address", running.address, "--config", str(config), "--probes", str(file), "--json", str(out))
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_text())["dtypes"]["float32"]
    assert set(found["differences"]) == quantities
    assert (len(found["conversations"]), found["refused"]) == (len(LINES), [])


# --- wrong ones fail --------------------------------------------------------------------------------------------------------


def test_a_running_server_passes(tmp_path: Path, probes: str, server: ServerThread) -> None:
    """The same files in another folder are the same model; what each of the next tests changes is all that they change."""
    flags = configured(tmp_path, copied(tmp_path / "model"))
    done = command("--address", server.address, *flags, "--probes", probes)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "than the naive path read" not in done.stdout


def test_other_weights_fail(tmp_path: Path, probes: str, server: ServerThread) -> None:
    folder = copied(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = tensors[name] + 1e-3 * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = command("--address", server.address, *configured(tmp_path, folder), "--probes", probes)
    assert done.returncode == 1
    assert "FAILED: float32: score differs by" in done.stdout
    assert "the server has other weights than the naive path read" in done.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ({"bos": "double"}, "other settings"),
        (
            {"template": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"},
            "another chat template",
        ),
    ],
    ids=["bos", "template"],
)
def test_another_text_fails(tmp_path: Path, probes: str, server: ServerThread, text: dict[str, Any], told: str) -> None:
    flags = configured(tmp_path, copied(tmp_path / "model"), text=text)
    done = command("--address", server.address, *flags, "--probes", probes)
    assert done.returncode == 1
    assert "FAILED: float32: score differs by" in done.stdout
    assert f"the server has {told} than the naive path read" in done.stdout


def test_another_length_fails(tmp_path: Path, probes: str, server: ServerThread) -> None:
    """What one side refuses has no difference, and is no parity either."""
    flags = configured(tmp_path, copied(tmp_path / "model"), text={"max_length": 64})
    done = command("--address", server.address, *flags, "--probes", probes)
    assert done.returncode == 1
    assert "float32: 1 conversations do not have the same numbers on both sides" in " ".join(done.stdout.split())
    assert "long: naive: refused (CONVERSATION_TOO_LONG" in done.stdout


class OffInCompany(WrappedScorer):
    """Gives a conversation a slightly other score where it is not alone, as leaking attention would."""

    def finish(self, launched: Any, /) -> BatchOutcome:
        done = super().finish(launched)
        if len(done.outcomes) < 2:
            return done
        outcomes = [Verdict(one.raw_score + 1e-3) if isinstance(one, Verdict) else one for one in done.outcomes]
        return BatchOutcome(outcomes, done.shared_tokens, done.computed_tokens)


def test_a_server_that_packs_wrongly_fails(tmp_path: Path, logit: LocalModel) -> None:
    file = write(tmp_path / "probes.jsonl", [{**LINES[0], "id": str(at)} for at in range(12)])
    with ServerThread([with_scorer(logit, OffInCompany(logit.packed))]) as broken:
        flags = configured(tmp_path, copied(tmp_path / "model"))
        done = command("--address", broken.address, *flags, "--probes", str(file), "--json", str(tmp_path / "out.json"))
    assert done.returncode == 1
    assert "FAILED: float32: score differs by" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())["dtypes"]["float32"]
    assert found["spread"] == pytest.approx(1e-3, rel=0.05)
    assert found["notes"] == []


# --- what cannot be verified ------------------------------------------------------------------------------------------------


def test_lines_that_cannot_be_read_are_told(tmp_path: Path, server: ServerThread) -> None:
    file = write(tmp_path / "probes.jsonl", [LINES[0], "nonsense", {"messages": []}])
    done = command("--address", server.address, "--model", "embedded:arithmetic-logit", "--probes", str(file))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 conversations refused on both sides" in done.stdout
    assert "line 2: INVALID_REQUEST: the line is no JSON" in done.stdout
    assert "line 3: NO_MESSAGES" in done.stdout
    none = write(tmp_path / "none.jsonl", ["nonsense"])
    done = command(
        "--address", server.address, "--config", configured(tmp_path, copied(tmp_path / "m"))[1], "--probes", str(none)
    )
    assert done.returncode == 1
    assert "holds no conversation that can be read: the line is no JSON" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say what to verify"),
        (["--model", "embedded:arithmetic-logit", "--json", "nowhere/out.json"], "there is no folder"),
        (["--model", "embedded:arithmetic-logit", "--picture", "out.gif"], "must end in .png"),
        (["--model", "embedded:nothing", "--dtype", "float32"], "no such model comes with this package"),
        (["--model", "embedded:arithmetic-logit", "--address", "127.0.0.1:1"], "UnavailableError"),
        (["--config", "external.yaml"], "external takes whole items"),
    ],
    ids=["target", "folder", "ending", "model", "address", "kind"],
)
def test_what_cannot_be_verified_ends_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    external = {"name": "rule", "scorer": {"kind": "external", "module": "a.b:c"}}
    (tmp_path / "external.yaml").write_text(yaml.safe_dump({"models": [external]}))
    done = command(*arguments)
    assert done.returncode in (1, 2)
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_dtype_of_a_running_server_is_its_own(server: ServerThread) -> None:
    done = command("--address", server.address, "--model", "embedded:arithmetic-logit", "--dtype", "bfloat16")
    assert done.returncode == 2
    assert "runs in float32; leave --dtype out" in " ".join(done.stderr.split())
