"""`text`: text to token ids, ours beside other libraries, each in a process and an environment of its own.

Every engine gets the same documents in the same round, on one core, and its ids are compared with those of `tokenizers` 0.23.
The parts behind it measure ours against itself, and whole pipelines from messages to ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.report import Report, Row, Table
from benchmarks.text.engines import OURS, Engine
from benchmarks.text.kinds import MOST_BYTES, Kind, conversations, kinds, made_conversations, test_module
from benchmarks.text.scaling import instruction_rows, linearity_rows, thread_rows
from benchmarks.text.speed import Findings, engine_rows, engines, exactness_rows, measure, open_all, tables_of_speeds
from benchmarks.text.whole import BATCH, whole_rows

FAMILIES = ("qwen3", "llama3_1", "gptoss", "deepseek_v3", "mistral_v1_spm", "gemma3")
_ALONE = ("qwen3", "mistral_v1_spm")
"""Families for the parts that measure ours against itself: a byte-level one and one of sentence pieces."""
_WHOLE = ("qwen3", "llama3_1")
_QUICK_BYTES = 400_000


def run(options: Options) -> Report:
    """Measures each family that the options name."""
    report = Report("text")
    options.say("gathering documents")
    texts = kinds(options.conversations, _QUICK_BYTES if options.quick else MOST_BYTES)
    folders = [
        (family, _folder(family, options)) for family in options.families or (FAMILIES[:1] if options.quick else FAMILIES)
    ]
    findings: dict[tuple[str, str], Findings] = {}
    told: dict[str, Mapping[str, str]] = {}
    alone: dict[str, list[Row]] = {"threads": [], "instructions": [], "linearity": []}
    with engines(options.only, options.say) as (running, missing):
        for family, folder in folders:
            says, failures = open_all(running, folder)
            told |= says
            for kind in texts:
                options.say(f"{family}: {kind.name}")
                findings[family, kind.name] = measure(running, failures, kind, options.repeats)
            if family in _ALONE:
                options.say(f"{family}: threads, instruction sets, endless words")
                _measure_alone(alone, [one for one in running if one.name not in failures], family, folder, texts, options)
    tables = [
        *tables_of_speeds(findings, {kind.name: kind for kind in texts}),
        _exactness(findings),
        Table("Engines", engine_rows(findings, told, missing), _ENGINES_NOTE),
        *_tables_alone(alone),
        _whole(folders, texts, options, report),
        _documents(texts),
    ]
    report.tables = [table for table in tables if table.rows]
    report.slices |= {f"{family} {kind}": _plain(found) for (family, kind), found in findings.items()}
    return report


def _folder(family: str, options: Options) -> Path:
    if options.tokenizers is not None:
        return options.tokenizers / family
    folder: Path = test_module("real_tokenizers").tokenizer_folder(family)
    return folder


def _measure_alone(
    alone: Mapping[str, list[Row]],
    running: Sequence[Engine],
    family: str,
    folder: Path,
    texts: Sequence[Kind],
    options: Options,
) -> None:
    for ours in (one for one in running if one.name == OURS):
        if options.cores > 1:
            alone["threads"].extend(thread_rows(ours, str(folder), family, texts, options.repeats, min(2, options.cores)))
        alone["instructions"].extend(instruction_rows(ours, str(folder), family, texts, options.repeats))
    alone["linearity"].extend(linearity_rows(running, family, min(options.repeats, 3)))


def _tables_alone(alone: Mapping[str, Sequence[Row]]) -> list[Table]:
    return [
        Table(
            "Two threads over one",
            alone["threads"],
            "Threads of one process that share an encoder, on documents that are new. Other processes on the machine's cores "
            "take from it.",
        ),
        Table(
            "Instruction sets",
            alone["instructions"],
            "The same documents after as many others, in an encoder of its own, by CPU time.",
        ),
        Table(
            "Endless words",
            alone["linearity"],
            "What ten times the text costs in CPU time, where it is one word of one letter or one run of spaces.",
        ),
    ]


def _exactness(findings: Mapping[tuple[str, str], Findings]) -> Table:
    return Table(
        "Exactness",
        exactness_rows(findings),
        "Documents of all kinds whose ids are not those of `tokenizers` 0.23, of those that were timed on new text.",
    )


_ENGINES_NOTE = (
    "What each call returns, and what it costs beyond the call to have all ids in one int32 array, by the shortest way "
    "that was found; it is in no speed above. CPU over wall above 1 is a second thread, far below 1 a busy machine."
)


def _whole(folders: Sequence[tuple[str, Path]], texts: Sequence[Kind], options: Options, report: Report) -> Table:
    """Whole pipelines, in a process of their own after all engines have ended."""
    options.say("whole pipelines")
    real = [messages for _, messages in conversations(options.conversations)]
    chosen = [(family, folder) for family, folder in folders if family in _WHOLE]
    given = (real or made_conversations(texts))[: 64 if options.quick else None]
    rows, report.slices["pipelines"] = whole_rows(chosen, given, options.repeats)
    return Table(
        "Messages to ids",
        rows,
        f"{len(given)} conversations in batches of {BATCH}, each once in one of the rounds, on one core. The padded call is "
        "`apply_chat_template(tokenize=True, return_tensors='pt', padding=True)`; ours is the server's text side with its "
        "checks, up to packed ids. Other ids are conversations that differ from `apply_chat_template`'s lists; what the server "
        "refuses for control tokens in the content is none of them.",
    )


def _documents(texts: Sequence[Kind]) -> Table:
    rows = [
        {
            "text": kind.name,
            "MB": kind.size / 1e6,
            "documents": len(kind.documents),
            "bytes that are not ASCII": sum(sum(byte > 127 for byte in each) for each in kind.documents) / kind.size,
            "from": kind.origin,
        }
        for kind in texts
    ]
    return Table("Documents", rows)


def _plain(found: Findings) -> dict[str, Any]:
    """Every slice, without the digests, which were compared."""

    def slices(each: Sequence[Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in asdict(one).items() if key != "digests"} for one in each]

    return {name: {"failure": one.failure, "new": slices(one.new), "again": slices(one.again)} for name, one in found.items()}
