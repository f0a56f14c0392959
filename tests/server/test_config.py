"""Settings: one declaration each, four sources in order, and nothing unknown is ignored."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from rm_grpc.addresses import is_loopback
from rm_grpc_cli.__main__ import group
from rm_grpc_server.config import ENV_PREFIX, ModelSettings, ServerSettings, TextSettings, load_settings, parse
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.presets import presets, resolve
from rm_grpc_server.scoring.registry import FACTORIES


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_embedded_models_on_loopback() -> None:
    settings = load_settings(environ={})
    assert [model.served_name for model in settings.models] == ["arithmetic-classifier", "arithmetic-logit"]
    assert is_loopback(settings.listen)


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "window_items: 1\ntext_threads: 11\nqueue_items: 111\n")
    environ = {"RM_GRPC_WINDOW_ITEMS": "2", "RM_GRPC_TEXT_THREADS": "22", "PATH": "x"}
    settings = load_settings(file=file, flags={"window_items": "3"}, environ=environ)
    assert (settings.window_items, settings.text_threads, settings.queue_items) == (3, 22, 111)
    assert settings.max_message_bytes == ServerSettings().max_message_bytes


def test_models_from_every_source(tmp_path: Path) -> None:
    file = write(
        tmp_path, "models:\n- path: /a/b\n  text: {bos: double}\n  scorer: {kind: token_logit, token_ids: [3]}\n- x=/c\n"
    )
    first, second = load_settings(file=file, environ={}).models
    assert (first.served_name, first.text.bos, first.scorer.kind, first.scorer.options) == (
        "b",
        "double",
        "token_logit",
        {"token_ids": [3]},
    )
    assert (second.served_name, second.path) == ("x", "/c")
    assert [m.path for m in load_settings(environ={"RM_GRPC_MODELS": "a=/x,/y"}).models] == ["/x", "/y"]
    assert [m.path for m in load_settings(flags={"models": ("/z",)}, environ={}).models] == ["/z"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour: red", "colour: no such setting; there are .*window_items"),
        ("models:\n- path: /a\n  colour: red", r"models\.0\.colour: no such setting"),
        ("models:\n- path: /a\n  text: {bso: single}", r"models\.0\.text\.bso: no such setting"),
        ("models:\n- path: /a\n  text: {bos: triple}", r"models\.0\.text\.bos: Input should be 'as_is'"),
        ("models: []", "models must name at least one model"),
        ("models: [/a/m, /b/m]", r"\['m'\] is named twice; give each a name"),
        ("window_items: 0", "window_items: Input should be greater than 0"),
        ("listen: 0.0.0.0:1", "listen: 0.0.0.0:1 can be reached from other machines.*insecure"),
        ("- a", "must hold settings as keys and values"),
        ("a: [", "cannot be read"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings(file=write(tmp_path, text), environ={})


def test_an_unknown_environment_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match="RM_GRPC_COLOUR: no such setting"):
        load_settings(environ={"RM_GRPC_COLOUR": "red"})


def test_listening_beyond_this_machine_must_be_asked_for() -> None:
    assert load_settings(flags={"listen": "0.0.0.0:1", "insecure": True}, environ={}).insecure
    assert is_loopback("[::1]:5")
    assert is_loopback("localhost:5")
    assert is_loopback("unix:/tmp/x")
    assert not is_loopback("example.org:5")


def test_every_setting_is_a_flag_with_its_environment_variable() -> None:
    shown = CliRunner().invoke(group, ["serve", "--help"], terminal_width=400)
    assert shown.exit_code == 0
    for name, field in ServerSettings.model_fields.items():
        flag = "model" if name == "models" else name.replace("_", "-")
        assert f"--{flag}" in shown.output
        assert f"{ENV_PREFIX}{name.upper()}" in shown.output
        assert field.description


@pytest.mark.parametrize("arguments", [["--window-items=x"], ["--listen=0.0.0.0:1"], ["--config=/none.yaml"], ["--colour=red"]])
def test_bad_flags_end_with_one_line(arguments: list[str]) -> None:
    result = CliRunner().invoke(group, ["serve", *arguments])
    assert result.exit_code != 0
    assert "Error:" in result.output
    assert "Traceback" not in result.output


# --- presets ----------------------------------------------------------------------------------------------------------


def test_presets_name_their_source() -> None:
    assert len(presets()) >= 15
    for name, preset in presets().items():
        assert preset.source, name
        options = import_module(FACTORIES[preset.scorer.kind or ""]).Options
        parse(options, preset.scorer.options, name)


def test_the_founding_models_need_nothing_but_their_name() -> None:
    skywork, origin = resolve(ModelSettings(path="Skywork/Skywork-Reward-Llama-3.1-8B"))
    assert (skywork.text.bos, skywork.scorer.kind) == ("double", "sequence_classification")
    assert "preset Skywork/Skywork-Reward-Llama-3.1-8B (model card" in origin
    nemotron, _ = resolve(ModelSettings(path="nvidia/Llama-3.1-Nemotron-70B-Reward-HF"))
    assert (nemotron.scorer.kind, nemotron.scorer.options) == ("token_logit", {"token_ids": [0]})
    assert (nemotron.text.max_length, nemotron.text.add_generation_prompt) == (4096, False)
    assert presets()["nvidia/Llama-3.3-Nemotron-70B-Reward"].expected == {}


def test_the_callers_settings_win_over_the_preset_and_it_is_told() -> None:
    path = "Skywork/Skywork-Reward-V2-Llama-3.1-8B"
    settings, origin = resolve(ModelSettings(path=path, text=TextSettings(bos="none")))
    assert (settings.text.bos, settings.text.max_length) == ("none", 16384)
    assert origin.endswith("with the caller's bos")
    plain, origin = resolve(ModelSettings(path=path, preset="none"))
    assert plain.text == TextSettings()
    assert "defaults" in origin
    copied, _ = resolve(ModelSettings(path="/local/copy", preset=path))
    assert copied.text.max_length == 16384
    with pytest.raises(ConfigError, match="no preset 'x'"):
        resolve(ModelSettings(path="/local/copy", preset="x"))
