"""`stillmark eval` and `stillmark rescore`: arguments only."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# To mount: app.command("eval", epilog=EVAL_EPILOG)(evaluate_command)
#           app.command("rescore", epilog=RESCORE_EPILOG)(rescore_command)
EVAL_EPILOG = """\b
Examples:
  stillmark eval --model ./SmolLM2-135M --tasks gsm8k,arc_easy --data data --limit 100 --out runs/eval
  stillmark eval --model ./student --tasks mmlu,bbh:word_sorting --data data --against runs/eval
  stillmark eval --model ./student --tasks arc_easy@generation,my_task.yaml --data data --json | jq .results
Tasks: NAME, NAME:SUBJECT, NAME@loglikelihood, NAME@generation, FILE.yaml, reasoning_gym:NAME,
  text:FILE, lm_eval:NAME. Stopped at any moment, it goes on.
"""
RESCORE_EPILOG = "Example: stillmark rescore runs/eval --budgets"


def evaluate_command(
    model: Annotated[str, typer.Option(help="Directory, hub id or .gguf file.")],
    tasks: Annotated[str, typer.Option(help="Names, with commas between.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the benchmarks' files; the hub if not given.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Items a task, picked by their ids; all if not given.")
    ] = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option(min=0, help="Examples in the prompt; the benchmark's own number if not given."),
    ] = None,
    shots: Annotated[
        str | None, typer.Option(help="Examples: `by_item` (drawn by the item's id) or `fixed` (faster).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("runs/eval"),
    engine: Annotated[str, typer.Option(help="transformers, llamacpp or openai.")] = "transformers",
    base_url: Annotated[str | None, typer.Option(help="Endpoint of the engine openai.")] = None,
    key_variable: Annotated[
        str | None, typer.Option(help="Environment variable with that endpoint's key.")
    ] = None,
    endpoint_kind: Annotated[
        str, typer.Option(help="Of that endpoint: `chat`, or `completions` (no chat template).")
    ] = "chat",
    extra_body: Annotated[
        str | None, typer.Option(help='Fields of that endpoint\'s own, as JSON: `{"top_k": 0}`.')
    ] = None,
    omit_fields: Annotated[
        str | None, typer.Option(help="Fields that its model refuses: `temperature,top_p,stop`.")
    ] = None,
    price_model: Annotated[
        str | None, typer.Option(help="Its model's name in the price list (STILLMARK_PRICES for your own).")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to it at once.")] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="At most, to that endpoint; no limit if not given.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the engine llamacpp.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16.")] = "float32",
    revision: Annotated[str | None, typer.Option(help="Of a hub model.")] = None,
    chat: Annotated[
        str, typer.Option(help="Chat template: `auto` (for generation), `always`, `never`.")
    ] = "auto",
    think_tags: Annotated[
        str, typer.Option(help="Marks around thinking, OPEN,CLOSE; `none` for none.")
    ] = "<think>,</think>",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Limit of a reply; the benchmark's own if not given.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Replies an item: gives pass@k, maj@k.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
    budgets: Annotated[bool, typer.Option("--budgets", help="Add accuracy at smaller token limits.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="A response cache file, shared by runs; none if not given.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare, paired, with FOLDER[#LABEL][@MODE] or another model."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Evaluate a model on benchmarks: accuracy with intervals, outcomes, tokens, seconds and FLOPs an answer."""
    from stillmark.evaluate.engines import endpoint_settings
    from stillmark.evaluate.session import Request, evaluate_models, print_session, session_as_json

    endpoint = endpoint_settings(
        base_url=base_url, key_variable=key_variable, kind=endpoint_kind, extra_body=extra_body,
        omitted_fields=omit_fields, price_model=price_model, max_concurrency=concurrency,
        requests_per_minute=requests_per_minute,
    )  # fmt: skip
    request = Request(
        model=model, tasks=tuple(filter(None, tasks.split(","))), data=data, limit=limit,
        num_fewshot=num_fewshot, shots=shots, out=out, engine=engine, device=device, dtype=dtype,
        endpoint=endpoint, threads=threads,
        revision=revision, chat=chat, think_tags=think_tags, max_new_tokens=max_new_tokens, samples=samples,
        temperature=temperature, top_p=top_p, seed=seed, budgets=budgets, cache=cache, against=against,
    )  # fmt: skip
    session = evaluate_models(request)
    write_json(session_as_json(session)) if as_json else print_session(session)


def rescore_command(
    folder: Annotated[
        Path, typer.Argument(help="Folder of an evaluation, such as runs/eval.", metavar="FOLDER")
    ],
    budgets: Annotated[bool, typer.Option("--budgets", help="Add accuracy at smaller token limits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Grade the stored replies again with today's scorers, without the model."""
    from dataclasses import asdict

    from stillmark.evaluate.rescore import accuracy_at_budgets, rescore
    from stillmark.evaluate.summary import evaluation_jobs, results
    from stillmark.evaluate.tables import print_rescored, print_results, results_as_json
    from stillmark.records import Store

    store = Store.open(folder)
    done = rescore(store)
    curves = {job.key: accuracy_at_budgets(store, job) for job in evaluation_jobs(store)} if budgets else {}
    if as_json:
        changes = [asdict(job) for job in done]
        write_json({"changes": changes, "results": results_as_json(results(store), curves)})
    else:
        print_rescored(done)
        print_results(results(store), curves)
    store.close()


def write_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()
