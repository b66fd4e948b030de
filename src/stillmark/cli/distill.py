"""`stillmark distill`: a distilled model from a teacher, a student and a data file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

DISTILL_EPILOG = """\b
Examples:
  stillmark distill --teacher ./teacher --student ./small --data pages.jsonl --out runs/small
  stillmark distill --teacher org/model --layers 12 --data traces.jsonl --control compute_with_teacher
  stillmark distill --teacher ./teacher --student ./small --data pages.txt --method jsd --epochs 2 --gguf
"""


def distill_command(
    teacher: Annotated[str, typer.Option(help="A Hugging Face directory, a hub id or a .gguf file.")],
    data: Annotated[list[str], typer.Option(help="A .txt or .jsonl file; again for more.")],
    student: Annotated[str | None, typer.Option(help="The model to start from, as --teacher.")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers kept of the teacher.", min=1)] = None,
    intermediate: Annotated[int | None, typer.Option(help="Feed-forward width kept.", min=1)] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden size kept.", min=1)] = None,
    text: Annotated[str | None, typer.Option(help="The field of a line that holds the text.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The field read before the response, without a loss.")
    ] = None,
    response: Annotated[str | None, typer.Option(help="The field to learn, after --prompt.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="sft, forward_kl, reverse_kl, jsd, skew_kl, skew_reverse_kl, total_variation, uld, gkd or on_policy."
        ),
    ] = "forward_kl",
    epochs: Annotated[float, typer.Option(help="Times that the data is read.", min=0)] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Constant after a warm-up of ten steps.")] = 3e-4,
    batch: Annotated[int, typer.Option(help="Sequences of an optimiser step.", min=1)] = 8,
    context: Annotated[int, typer.Option(help="Tokens of a sequence.", min=8)] = 512,
    test: Annotated[
        list[str] | None, typer.Option(help="A file as --data to test on, never trained on; again for more.")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of --data kept from training to test on: .jsonl documents by their prompt, or, of .txt files "
            "alone, their last lines. 0.05 if not given; 0 beside --test."
        ),
    ] = None,
    logit_cache: Annotated[
        int | None,
        typer.Option(help="Keep the teacher's so many likeliest tokens, read by every epoch.", min=1),
    ] = None,
    lora: Annotated[int | None, typer.Option(help="Train adapters of this rank alone.", min=1)] = None,
    control: Annotated[
        str | None,
        typer.Option(help="Also train a vanilla model: tokens, steps, compute or compute_with_teacher."),
    ] = None,
    gguf: Annotated[bool, typer.Option("--gguf", help="Also write student.gguf.")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Log steps to trackio, mlflow, wandb or tensorboard; again for more."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int | None, typer.Option(help="Threads; all cores if not given.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model, its card and the records.")] = Path(
        "runs/distill"
    ),
) -> None:
    """Distil a teacher into a student on your data; the model card carries the ledger. Stopped, it goes on."""
    from stillmark.cli import resumable
    from stillmark.distilled import distil, training_lines
    from stillmark.study.distill import DistillRequest

    request = DistillRequest(
        teacher=teacher, data=tuple(data), test=tuple(test or ()), student=student, num_hidden_layers=layers,
        intermediate_size=intermediate, hidden_size=hidden, text=text, prompt=prompt, response=response,
        method=method, learning_rate=learning_rate, batch_samples=batch, context_tokens=context,
        held_out_share=held_out, seed=seed, logit_cache_k=logit_cache, lora_rank=lora, control=control,
        threads=threads, track=tuple(track or ()),
    )  # fmt: skip
    with resumable():
        folder = distil(request, epochs=epochs, out=out, write_gguf=gguf)
    if folder is not None:  # of several processes, the first speaks
        for line in training_lines(out):
            print(line, file=sys.stderr)
        print(f"model: {folder}", file=sys.stderr)
        print(folder)
