"""`stillmark flops`: what a model's forward, training, prefill and decode take, by formula, with 6ND beside it."""

import json
import sys
from typing import Annotated, Any

import typer

FLOPS_EPILOG = """\b
Examples:
  stillmark flops ./my-model --tokens 4096
  stillmark flops meta-llama/Llama-3.1-8B --tokens 8192 --new-tokens 1024 --json | jq .train_flops_per_token
"""


def flops_command(
    model: Annotated[
        str, typer.Argument(help="A directory, a config.json, or an id on the Hugging Face hub.")
    ],
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a sequence, and of the prompt in decoding.")
    ] = 2048,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens written after the prompt.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Count a model's FLOPs by formula, with the rule of thumb 6ND beside it. Needs no torch and no weights."""
    counts = counts_of(model, tokens, new_tokens)
    if as_json:
        json.dump(counts, sys.stdout, indent=2)
        print()
    else:
        print_counts(counts)


def counts_of(model: str, tokens: int, new_tokens: int) -> dict[str, Any]:
    """Every count under its own name, and the convention that they follow."""
    from stillmark.compute import flops
    from stillmark.compute.method_flops import six_nd
    from stillmark.compute.shapes import load_shape

    shape = load_shape(model)
    train = flops.train_flops(shape, tokens=tokens)
    rule = six_nd(shape, tokens, formula_flops=train)
    decode = flops.decode_flops(shape, prompt_tokens=tokens, new_tokens=new_tokens)
    return {
        "model": model,
        "params": shape.params,
        "active_params": shape.active_params,
        "non_embedding_params": shape.non_embedding_params,
        "matmul_params": shape.matmul_params,
        "tokens": tokens,
        "new_tokens": new_tokens,
        "forward_flops": flops.forward_flops(shape, tokens=tokens),
        "train_flops": train,
        "train_flops_per_token": train / tokens,
        "six_nd_flops": rule.flops,
        "six_nd_difference": rule.difference,
        "prefill_flops": flops.prefill_flops(shape, prompt_tokens=tokens),
        "decode_flops": decode,
        "cached_values": shape.cached_values(tokens + new_tokens),
        "method": "counted by formula: a multiply-add is 2, the head counted and the embedding look-up not, "
        "attention in full; 6ND with N = all parameters that a token meets",
    }


def print_counts(counts: dict[str, Any]) -> None:
    """The counts as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=counts["model"], title_justify="left", show_header=False)
    for name in ("params", "active_params", "non_embedding_params", "matmul_params"):
        table.add_row(name.replace("_", " "), f"{counts[name]:,}")
    for name in ("forward", "train", "six_nd", "prefill", "decode"):
        note = (
            f"{counts['tokens']:,} tokens"
            if name != "decode"
            else f"{counts['new_tokens']:,} new tokens after them"
        )
        if name == "six_nd":
            note += f": {counts['six_nd_difference']:+.1%} beside the formula"
        table.add_row(f"{name.replace('six_nd', '6ND')} FLOPs", f"{counts[f'{name}_flops']:.4g}", note)
    console = Console(highlight=False)
    console.print(table)
    console.print(counts["method"])
