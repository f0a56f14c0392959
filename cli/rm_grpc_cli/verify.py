"""`rm-grpc verify`: what a server answers, held against the naive path of the same checkpoint."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from rm_grpc_cli.outputs import check_outputs, write_json
from rm_grpc_cli.progress import progress
from rm_grpc_cli.target import connect, own_server
from rm_grpc_cli.verification.cards import card_rows
from rm_grpc_cli.verification.chosen import Chosen, choose
from rm_grpc_cli.verification.naive import NaiveRun, score_naively
from rm_grpc_cli.verification.outcomes import Refusal
from rm_grpc_cli.verification.parity import Parity, sides
from rm_grpc_cli.verification.picture import draw
from rm_grpc_cli.verification.probes import Probe, built_in, published, read_probes
from rm_grpc_cli.verification.report import report
from rm_grpc_cli.verification.served import Round, requests_of, score_rounds
from rm_grpc_cli.verification.tables import tables, told_notes
from rm_grpc_cli.verification.verification import Verification, with_rounding
from rm_grpc_client import Item, ModelInfo, RewardClient
from rm_grpc_server.published import expected_of

_DTYPES = ("float32", "bfloat16", "float16")
_DEFAULT_DTYPES = ("float32", "bfloat16")
_DIGESTS = {
    "weights_digest": "other weights",
    "tokenizer_digest": "another tokenizer",
    "template_digest": "another chat template",
    "settings_json": "other settings",
}
_FILE = click.Path(dir_okay=False, path_type=Path)
_INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--model", default="", help="the checkpoint: a folder, hub id or embedded:NAME, or a model's name in --config")
@click.option("--config", type=_INPUT, help="YAML file of a server, for all other settings")
@click.option("--address", default="", help="host:port of a running server to verify, instead of one started here")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(_DTYPES), help="again for more [default: float32, bfloat16]"
)
@click.option("--probes", type=_INPUT, help="conversations to use instead of the built-in ones, as for rm-grpc score")
@click.option("--shuffles", default=3, type=click.IntRange(0), show_default=True, help="how many rounds in a random order")
@click.option("--json", "json_file", type=_FILE, help="write every number there")
@click.option("--picture", type=_FILE, help='draw scores and differences there (.png, .svg or .pdf); needs "rm-grpc[plots]"')
def command(
    model: str,
    config: Path | None,
    address: str,
    dtypes: tuple[str, ...],
    probes: Path | None,
    shuffles: int,
    json_file: Path | None,
    picture: Path | None,
) -> None:
    """Check that a server gives the numbers of the naive path: the whole Transformers model, one conversation at a time.

    Each conversation is scored through the service alone, together with all others, in random orders and beside its siblings,
    and once on the naive path; for each dtype a server is started and ended, then the naive model is loaded. Where float32
    differs by a little more than it should, the naive path is run in double precision too, to tell rounding from a fault.
    Where the model's preset knows scores of its model card, these are compared too.

    The exit status is 0 where all differences are within what is allowed, else 1.
    """
    check_outputs(json_file, picture)
    chosen = choose(model, config)
    expected = expected_of(chosen.model)
    own = read_probes(probes) if probes else built_in()
    listed = [*own, *published(expected)]
    if not any(isinstance(probe.item, Item) for probe in listed):
        raise click.ClickException(
            f"{probes} holds no conversation that can be read: {listed[0].item if listed else 'no line'}"
        )
    run = _Run(chosen, listed, shuffles)
    parities = run.against(address, dtypes) if address else [run.of_dtype(dtype) for dtype in dtypes or _DEFAULT_DTYPES]
    assert run.info is not None  # some dtype was run
    source = f"{len(own)} conversations of {probes or 'the built-in probes'}, {len(expected)} with known scores"
    cards = card_rows(expected, run.info.scorer_kind, parities)
    found = Verification(_described(run.info), source, with_rounding(parities), tuple(cards))
    if json_file is not None:
        write_json(json_file, report(found))
    if picture is not None:
        draw(found, picture)
    _show(found)
    raise SystemExit(0 if found.passed else 1)


class _Run:
    """Both sides of a model, one dtype after another.

    Attributes:
        info: what the last server said of the model.
    """

    def __init__(self, chosen: Chosen, probes: Sequence[Probe], shuffles: int) -> None:
        self.info: ModelInfo | None = None
        self._chosen = chosen
        self._probes = probes
        self._shuffles = shuffles
        self._console = Console(stderr=True)

    def of_dtype(self, dtype: str) -> Parity:
        """A server of this command's own, which is gone before the naive model is loaded."""
        with tempfile.TemporaryDirectory(prefix="rm-grpc-") as folder:
            file = self._chosen.write(dtype, Path(folder))
            with own_server([], file, self._console) as own, RewardClient(own) as client:
                info = client.get_model(self._chosen.model.served_name)
                rounds = self._served(client, info)
        return self._compared(info, rounds)

    def against(self, address: str, dtypes: tuple[str, ...]) -> list[Parity]:
        """A running server, which has one dtype."""
        name = self._chosen.model.served_name
        with connect(address, name) as client:
            info = client.get_model()
            if dtypes and set(dtypes) != {info.dtype}:
                raise click.UsageError(f"--dtype: {name} at {address} runs in {info.dtype}; leave --dtype out")
            rounds = self._served(client, info)
        return [self._compared(info, rounds)]

    def _served(self, client: RewardClient, info: ModelInfo) -> list[Round]:
        total = requests_of(self._probes, self._shuffles)
        with progress(f"{info.dtype}, served", total, self._console, remaining=False) as advance:
            return score_rounds(client, self._probes, self._shuffles, lambda: advance(1))

    def _compared(self, info: ModelInfo, rounds: Sequence[Round]) -> Parity:
        self.info = info
        chosen, count = self._chosen, len(self._probes)
        with progress(f"{info.dtype}, naive", count, self._console, remaining=False) as advance:
            naive = score_naively(chosen.of_dtype(info.dtype), chosen.server, self._probes, lambda: advance(1))
        sorted_out = sides(self._probes, rounds, naive.outcomes)
        if not sorted_out.compared and not sorted_out.disagreements:
            told = "; ".join(f"{one.name}: {one.refusal.message}" for one in sorted_out.refused[:3])
            raise click.ClickException(f"all conversations were refused, bring others with --probes: {told}")
        parity = Parity(
            dtype=info.dtype,
            device=info.device,
            model_digest=info.model_digest,
            compared=sorted_out.compared,
            refused=sorted_out.refused,
            disagreements=sorted_out.disagreements,
            deterministic="deterministic" in json.loads(info.settings_json),
            notes=_notes(info, naive),
        )
        return self._beside_double(parity) if parity.may_be_rounding and not parity.notes else parity

    def _beside_double(self, parity: Parity) -> Parity:
        """The same, with how far the naive path itself is from double precision, which takes twice its memory."""
        chosen = self._chosen
        try:
            with progress("float64, naive", len(self._probes), self._console, remaining=False) as advance:
                double = score_naively(
                    chosen.of_dtype(parity.dtype), chosen.server, self._probes, lambda: advance(1), in_double=True
                )
        except click.ClickException as error:
            told = f"whether that is rounding is open: double precision cannot be run ({error.message})"
            return replace(parity, notes=(*parity.notes, told))
        return parity.beside_double(
            {self._probes[at].name: found for at, found in double.outcomes.items() if not isinstance(found, Refusal)}
        )


def _notes(info: ModelInfo, naive: NaiveRun) -> tuple[str, ...]:
    differing = [told for name, told in _DIGESTS.items() if getattr(info, name) != naive.digests[name]]
    return tuple(f"the server has {told} than the naive path read" for told in differing)


def _described(info: ModelInfo) -> dict[str, str]:
    names = ("name", "source", "revision", "scorer_kind", "architecture", "settings_source")
    return {name: str(getattr(info, name)) for name in names}


def _show(found: Verification) -> None:
    console = Console(highlight=False)
    model = found.model
    console.print(Text(f"{model['name']} ({model['scorer_kind']}), {found.probes}", style="bold"))
    for parity in found.parities:
        console.print(Text(f"{parity.dtype} on {parity.device}, digest {parity.model_digest}", style="dim"))
    for titled in tables(found):
        console.print(Text(f"\n{titled.title}\n"))
        console.print(titled.table)
    for note in ("", *told_notes(found)):
        console.print(Text(note, style="dim"))
    console.print(Text(f"\n{found.verdict}", style="bold green" if found.passed else "bold red"))
