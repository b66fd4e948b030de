"""The study behind `stillmark distill`: which file has fields, which is held out of, and what is refused."""

from typing import Any

import pytest

from stillmark.errors import UserError
from stillmark.study.distill import DistillRequest, distill_study
from stillmark.study.schema import Text


def text_of(**request: Any) -> Text:
    study = distill_study(DistillRequest(teacher="t", num_hidden_layers=2, **request), train_flops=1e9)
    spec = study.tasks["data"]
    assert isinstance(spec, Text)
    return spec


@pytest.mark.parametrize(
    ("request_", "train", "test"),
    [
        ({"data": ("a.txt",)}, [(None, 0.05)], []),
        ({"data": ("a.txt",), "held_out_share": 0.2}, [(None, 0.2)], []),
        ({"data": ("a.txt", "b.jsonl"), "text": "body"}, [(None, 0), ("body", 0.05)], []),
        ({"data": ("a.txt", "b.jsonl"), "text": "body", "test": ("c.txt", "d.jsonl")},
         [(None, 0), ("body", 0)], [(None, 0), ("body", 0)]),
        ({"data": ("b.jsonl",), "test": ("c.txt",), "held_out_share": 0.1}, [(None, 0.1)], [(None, 0)]),
    ],
)  # fmt: skip
def test_fields_and_shares_are_of_the_files_that_can_have_them(request_: dict, train: list, test: list):
    spec = text_of(**request_)
    assert [(file.text, file.held_out_share) for file in spec.train] == train
    assert [(file.text, file.held_out_share) for file in spec.test] == test


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"data": ("a.jsonl",), "held_out_share": 0.0}, "nothing to test on: --held-out is 0 and no --test"),
        ({"data": ("a.txt",), "prompt": "q", "response": "a"}, "--prompt names a field of .jsonl files"),
    ],
)
def test_what_cannot_be_is_said_in_the_options_words(request_: dict, said: str):
    with pytest.raises(UserError, match=said):
        text_of(**request_)
