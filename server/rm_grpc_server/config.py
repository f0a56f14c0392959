"""Every knob of the server, declared once: name, type, default and meaning.

The same declaration gives the YAML key (`window_items`), the flag (`--window-items`) and the environment variable
(`RM_GRPC_WINDOW_ITEMS`). A flag wins over the environment, the environment over the file, the file over the default; a key
that is not declared here is refused. This is the only module that reads `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rm_grpc.addresses import is_loopback
from rm_grpc_server.errors import ConfigError

ENV_PREFIX = "RM_GRPC_"
CLIENT_PREFIX = "RM_GRPC_CLIENT_"
"""Settings of the client, which are none of the server's."""
_S = TypeVar("_S", bound=BaseModel)


class Settings(BaseModel):
    """Frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextSettings(Settings):
    """How a conversation becomes the text and the ids that the model reads."""

    bos: Literal["as_is", "single", "double", "none"] = Field(
        "as_is",
        description="leading BOS tokens: as_is takes what the template renders, the others make it exactly one, two or none",
    )
    date_string: str | None = Field(
        None,
        description="the date that a template prints, such as '26 Jul 2024'; needed by templates that would print today's",
    )
    template: str | None = Field(None, description="a Jinja chat template, as text, to use instead of the checkpoint's own")
    template_file: Path | None = Field(
        None, description="a file with a Jinja chat template to use instead of the checkpoint's own"
    )
    template_kwargs: dict[str, Any] = Field(default_factory=dict, description="further arguments of the chat template")
    content_format: Literal["text", "parts"] = Field(
        "text", description="what content is to the template: one text, or a list of parts, which some templates insist on"
    )
    tool_arguments: Literal["object", "text"] = Field(
        "object", description="what the arguments of a tool call are to the template: an object, or JSON text"
    )
    add_generation_prompt: bool = Field(False, description="end the text with the opening of another assistant message")
    system_prompt: Literal["allowed", "forbidden", "required"] = Field(
        "allowed", description="whether a conversation may or must bring a system message"
    )
    default_system: str | None = Field(None, description="system message for conversations that bring none")
    user_suffix: str = Field("", description="text appended to the last user message")
    response_prefix: str = Field("", description="text put before the final assistant message")
    require_response: bool = Field(True, description="refuse conversations that do not end with an assistant message")
    encoder: Literal["auto", "native", "huggingface"] = Field(
        "auto",
        description="what makes ids of text: native is rm-grpc-native, auto is native where it is installed and knows the "
        "tokenizer exactly, and else huggingface; the ids are the same",
    )
    max_length: int | None = Field(None, gt=0, description="most tokens that the model reads; by default what its config says")
    overlong: Literal["error", "drop_oldest_turns"] = Field(
        "error",
        description="what happens past max_length; drop_oldest_turns drops whole turns but the system message and the last",
    )

    @model_validator(mode="after")
    def _one_template(self) -> TextSettings:
        if self.template is not None and self.template_file is not None:
            raise ValueError("template: goes without template_file; give one of them")
        return self


class Normalization(Settings):
    """What makes scores of several models comparable: score = (raw_score - mean) / std."""

    mean: float = Field(0.0, description="mean of the model's raw scores")
    std: float = Field(1.0, gt=0, description="standard deviation of the model's raw scores")

    def of(self, raw_score: float) -> float:
        """The normalised score."""
        return (raw_score - self.mean) / self.std


class ScorerSettings(BaseModel):
    """The scorer's kind; its further keys belong to the kind, which checks them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str | None = Field(
        None, description="how conversations become scores; see docs/kinds. By default found from the checkpoint"
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `kind`."""
        return dict(self.model_extra or {})


class ModelSettings(Settings):
    """One model to serve."""

    path: str = Field(
        "",
        description="a checkpoint folder, a hub id, or embedded:NAME for a model that comes with this package; nothing for "
        "kinds without a checkpoint (external, judge, ensemble)",
    )
    name: str = Field("", description="the name that requests use; by default the last part of path")
    preset: str | None = Field(
        None, description="id of the preset whose settings apply; by default the one named like path, and 'none' for none"
    )
    revision: str | None = Field(None, description="the hub's revision")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the weights; auto is the checkpoint's"
    )
    devices: str = Field(
        "auto",
        description="where its replicas run: cpu, cuda:0,1 ..., auto for all GPUs or the CPU where there is none; each with "
        "'2 per replica' behind it where one replica spans several GPUs",
    )
    replicas: int = Field(
        0,
        ge=0,
        description="how many replicas; 0 is one for each GPU or group of them, and on the CPU one for each core, "
        "at most four, unless the model is tiny or large",
    )
    parallel: Literal["layers", "tensor"] = Field(
        "layers",
        description="how a replica spans several GPUs: layers puts whole layers on each, tensor a part of every layer",
    )
    prefix_sharing: bool = Field(True, description="compute what conversations of a batch have in common once")
    prefix_cache_bytes: int | None = Field(
        None,
        ge=0,
        description="most bytes of keys and values of prompts that each replica keeps between batches, so that the last "
        "answers to a prompt do not pay for it again; by default 256 MiB on the CPU and none on a GPU",
    )
    trust_remote_code: bool = Field(
        False, description="run Python code that comes with the checkpoint, where its kind needs it"
    )
    normalize: Normalization | None = Field(
        None, description="mean and std that turn raw scores into scores; the raw score stays in the answer"
    )
    deterministic: bool = Field(
        False,
        description="the same bits for a conversation whatever it is batched with; costs the sharing and some filling up, "
        "and takes one thread for each replica on the CPU",
    )
    text: TextSettings = TextSettings()
    scorer: ScorerSettings = ScorerSettings()

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if not self.served_name:
            raise ValueError("name: a model without a path needs a name")
        if self.deterministic and self.prefix_cache_bytes:
            raise ValueError("deterministic: goes without prefix_cache_bytes, for stored prefixes change a score's last bits")
        if self.prefix_cache_bytes and not self.prefix_sharing:
            raise ValueError("prefix_cache_bytes: goes with prefix_sharing only")
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            name, equals, path = raw.partition("=")
            return {"name": name, "path": path} if equals else {"path": raw}
        return raw

    @property
    def served_name(self) -> str:
        """The name that requests use."""
        return self.name or self.path.rstrip("/").rpartition("/")[2].removeprefix("embedded:")


EMBEDDED_MODELS = ("embedded:arithmetic-classifier", "embedded:arithmetic-logit")


class ServerSettings(Settings):
    """The whole server."""

    listen: str = Field("127.0.0.1:50051", description="address and port; port 0 takes a free one")
    http: str = Field(
        "", description="address and port of the HTTP interface (see docs/http.md); empty for none; port 0 takes a free one"
    )
    http_origins: str = Field(
        "", description="web pages that may use HTTP: origins such as https://example.org, with commas between; * for all"
    )
    tls_cert_file: str = Field(
        "", description="PEM of the server's certificate and those up to its authority; encrypts gRPC and HTTP"
    )
    tls_key_file: str = Field("", description="PEM of the certificate's key")
    tls_client_ca_file: str = Field(
        "", description="PEM of authorities; clients must then bring a certificate from one of them"
    )
    token_file: str = Field("", description="file of tokens, one a line; callers must then bring one of them")
    token_env: str = Field("", description="name of an environment variable that holds such tokens, with spaces between")
    insecure: bool = Field(False, description="allow listening beyond this machine without encryption")
    models: tuple[ModelSettings, ...] = Field(
        tuple(ModelSettings(path=path) for path in EMBEDDED_MODELS),
        description="what to serve: PATH or NAME=PATH as a flag (again for more), the full settings in the file",
        json_schema_extra={"flag": "model"},
    )
    text_threads: int = Field(2, gt=0, description="threads that render and encode")
    torch_threads: int = Field(
        0, ge=0, description="threads of a forward pass on the CPU; 0 shares the cores among a model's replicas"
    )
    max_batch_tokens: int = Field(0, ge=0, description="most tokens of a batch; 0 is 2048 on the CPU and 16384 on a GPU")
    fill_batch_tokens: int = Field(
        0,
        ge=0,
        description="up to how many tokens a batch is filled with conversations that have nothing in common; 0 is 512 on the "
        "CPU and max_batch_tokens on a GPU",
    )
    queue_items: int = Field(16384, gt=0, description="most items that wait for a model")
    queue_tokens: int = Field(16_777_216, gt=0, description="most tokens that wait for a model")
    queue_bytes: int = Field(1_073_741_824, gt=0, description="most bytes of items that wait for a model")
    batch_wait_seconds: float = Field(
        0.004, ge=0, description="how long a batch that is not full waits for more while its device is busy anyway"
    )
    max_age_seconds: float = Field(
        5.0, gt=0, description="after how long an item goes before all younger ones, whosever stream they are on"
    )
    hang_seconds: float = Field(300.0, gt=0, description="how long a batch may take before its replica is taken for hung")
    load_seconds: float = Field(3600.0, gt=0, description="how long a replica may take to load before it is given up")
    recovery_seconds: float = Field(
        20.0, ge=0, description="how long accepted items wait for a replica when all are dead; new ones are refused meanwhile"
    )
    probe_seconds: float = Field(15.0, gt=0, description="how often a replica without work proves that it can score")
    window_items: int = Field(1024, gt=0, description="most items in flight on one stream")
    window_bytes: int = Field(33_554_432, gt=0, description="most bytes of items in flight on one stream")
    max_message_bytes: int = Field(16_777_216, gt=0, description="largest message that is read")
    drain_seconds: float = Field(30.0, ge=0, description="how long a stopping server works on what it has accepted")
    trace_file: Path | None = Field(None, description="file that receives a line of JSON for each batch: what went when where")
    ready_file: Path | None = Field(
        None, description="file that receives the address once the server is ready, and that of HTTP in a second line"
    )
    until_stdin_closes: bool = Field(
        False, description="drain when standard input closes, so as not to outlive a parent process"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, raw: Any) -> Any:
        return tuple(part for part in raw.split(",") if part) if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _consistent(self) -> ServerSettings:
        if not self.models:
            raise ValueError("models must name at least one model")
        names = [model.served_name for model in self.models]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"models: {sorted(twice)} is named twice; give each a name of its own (NAME=PATH)")
        if self.max_batch_tokens and self.fill_batch_tokens > self.max_batch_tokens:
            raise ValueError("fill_batch_tokens: must not be more than max_batch_tokens")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file: go together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file: goes with tls_cert_file and tls_key_file")
        if self.http_origins and not self.http:
            raise ValueError("http_origins: goes with http")
        for key, address in (("listen", self.listen), ("http", self.http)):
            if address and not (self.tls_cert_file or self.insecure or is_loopback(address)):
                raise ValueError(
                    f"{key}: {address} can be reached from other machines; encrypt with tls_cert_file and tls_key_file, or "
                    "allow it without with insecure"
                )
        return self

    @property
    def origins(self) -> tuple[str, ...]:
        """The web pages that may use HTTP."""
        return tuple(origin.strip() for origin in self.http_origins.split(",") if origin.strip())


def load_settings(
    *, file: Path | None = None, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> ServerSettings:
    """The server's settings from flags, environment and file.

    Raises:
        ConfigError: a key that is not declared, or a value that cannot be.
    """
    values: dict[str, Any] = _read_yaml(file) if file else {}
    for key, text in (os.environ if environ is None else environ).items():
        if key.startswith(ENV_PREFIX) and not key.startswith(CLIENT_PREFIX):
            name = key.removeprefix(ENV_PREFIX).lower()
            if name not in ServerSettings.model_fields:
                raise ConfigError(f"{key}: no such setting; there are {_names(ServerSettings)}")
            values[name] = text
    values |= flags or {}
    return parse(ServerSettings, values, str(file or "settings"))


def parse(model: type[_S], values: Any, source: str) -> _S:
    """Values checked against their declaration.

    Raises:
        ConfigError: naming each key at fault and, for an unknown one, those that there are.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_told(model, fault, source) for fault in error.errors())) from error


def _told(model: type[BaseModel], fault: Any, source: str) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{source}: {where}: no such setting" + (f"; there are {_names(model)}" if len(fault["loc"]) == 1 else "")
    return f"{source}: {where}: {message}" if where else f"{source}: {message}"


def _names(model: type[BaseModel]) -> str:
    return ", ".join(sorted(model.model_fields))


def secret(name: str, setting: str) -> str:
    """The value of an environment variable that holds a secret; never to be logged or shown.

    Args:
        setting: the setting that names the variable, for whoever forgot to set it.

    Raises:
        ConfigError: there is no such variable, or nothing in it.
    """
    if value := os.environ.get(name, "").strip():
        return value
    raise ConfigError(f"{setting}: the environment has no {name}, or nothing in it; set it where the server is started")


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold settings as keys and values")
    return values or {}
