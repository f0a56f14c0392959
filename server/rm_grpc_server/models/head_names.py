"""Where checkpoints keep their heads, told from the names of their tensors alone: torch is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

KNOWN_HEADS = (
    "score",  # Skywork, INF-ORM (perceptron), Qwen2.5-Math-RM and -PRM (perceptron)
    "v_head.summary",  # TRL's value head: GRM (perceptron), Skywork-o1-PRM
    "v_head",  # Starling
    "regression_head",  # UltraRM, Eurus
    "score_head",  # Beaver, ReasonEval
    "value_head",
    "reward_head",
    "rm_head",
    "out_proj",  # OpenAssistant's pythia models
    "classifier",
)
"""Names that public reward models give their heads."""
GATED = ("regression_layer.weight", "reward_transform_matrix", "gating.logit_scale")
"""What objectives under a gate are made of (ArmoRM, QRM), beside the gate's own layers."""
IN_LAYER = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.")
LM_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_BODY = re.compile(
    r"(^|\.)(embed_\w+|\w*embeddings\w*|encoder|wte|wpe|tok_embeddings|norm|norm_f|final_\w*norm|ln_f|rotary_emb|pooler)(\.|$)"
)


def beside_body(names: Iterable[str]) -> list[str]:
    """Those of tensors that are no part of a body and no language-model head, sorted."""
    return sorted(name for name in names if not (IN_LAYER.search(name) or _BODY.search(name) or LM_HEAD.search(name)))


def find_heads(names: Sequence[str]) -> list[str]:
    """The heads that a checkpoint has, by their full names: linear (`name.weight`) or perceptrons (`name.0.weight` ...)."""
    known = "|".join(re.escape(name) for name in KNOWN_HEADS)
    pattern = re.compile(rf"^((?:[\w.]+\.)?(?:{known}))\.(?:\d+\.)?weight$")
    found = {match.group(1) for name in names if (match := pattern.match(name))}
    return sorted(name for name in found if not any(other.startswith(name + ".") for other in found))


def layers_of(head: str, names: Sequence[str]) -> list[str]:
    """Where the linear layers of a head are, in their order, each as what stands before `weight` and `bias`."""
    places = [f"{head}."] if f"{head}.weight" in names else []
    numbers = {int(match.group(1)) for name in names if (match := re.match(rf"{re.escape(head)}\.(\d+)\.weight$", name))}
    return places + [f"{head}.{number}." for number in sorted(numbers)]
