"""Documents of a text task: counts from reading the real files by hand, and every fault with its file and line."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.paths import SHARED

from stillmark.errors import UserError
from stillmark.study.schema import TextFile
from stillmark.tasks.documents import Document, read_documents

needs_data = pytest.mark.skipif(SHARED is None, reason="the shared data are not here")


def lines(path: Path, *rows: object) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def read(file: str, **fields: object) -> list[Document]:
    return read_documents([TextFile(file=file, **fields)])[0]


@needs_data
def test_a_list_gives_a_document_for_each_entry_and_prompts_stay_on_one_side():
    """100 problems with 8 solutions each (SOURCE.md: 800 samples)."""
    path = SHARED / "data/traces_qwen25_math_cot100/math_cot_100.jsonl"
    spec = TextFile(file=str(path), prompt="question", response="code", held_out_share=0.2)
    train, held_out = read_documents([spec])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(train) + len(held_out) == 800
    assert {document.prompt for document in train}.isdisjoint(document.prompt for document in held_out)
    by_line = sorted([*train, *held_out], key=lambda document: document.line)
    expected = [
        (row["question"], code, place) for place, row in enumerate(rows, start=1) for code in row["code"]
    ]
    assert [(document.prompt, document.response, document.line) for document in by_line] == expected
    kept_out = {row["question"] for row in rows if hash_share(row["question"]) < 0.2}
    assert {document.prompt for document in held_out} == kept_out
    assert 5 <= len(kept_out) <= 35


def hash_share(text: str) -> float:
    """The rule of the docstring, by another way: the first 16 hex digits as a fraction."""
    return int(hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:16], 16) / 16**16


@needs_data
def test_real_questions_and_texts():
    train, held_out = read_documents(
        [
            TextFile(file=str(SHARED / "data/gsm8k/train.jsonl"), prompt="question", response="answer",
                     held_out_share=0.1),
            TextFile(file=str(SHARED / "data/text_wikitext2/valid.txt")),
        ]
    )  # fmt: skip
    assert len(train) + len(held_out) == 7473 + 1
    assert abs(len(held_out) / 7473 - 0.1) < 3 * (0.1 * 0.9 / 7473) ** 0.5
    text = (SHARED / "data/text_wikitext2/valid.txt").read_text()
    assert train[-1] == Document(prompt="", response=text, file="valid.txt", line=1)


def test_max_documents_are_the_first_and_a_share_does_not_move_with_more_of_them(tmp_path: Path):
    rows = [{"text": f"document {number}"} for number in range(200)]
    file = lines(tmp_path / "a.jsonl", *rows)
    assert [d.response for d in read(file, max_documents=3)] == [row["text"] for row in rows[:3]]
    few = read_documents([TextFile(file=file, max_documents=100, held_out_share=0.3)])[1]
    many = read_documents([TextFile(file=file, held_out_share=0.3)])[1]
    assert few == [document for document in many if document.line <= 100]


def test_a_share_of_a_few_prompts_holds_out_one_with_all_its_responses(tmp_path: Path):
    rows = [{"prompt": f"question {number % 5}", "response": f"answer {number}"} for number in range(10)]
    file = lines(tmp_path / "a.jsonl", *rows)
    train, held_out = read_documents([TextFile(file=file, held_out_share=1e-9)])
    assert len({document.prompt for document in held_out}) == 1
    assert (len(train), len(held_out)) == (8, 2)
    wider = read_documents([TextFile(file=file, held_out_share=0.6)])[1]
    assert {document.line for document in held_out} < {document.line for document in wider}


def test_the_end_of_a_text_file_is_held_out_and_none_of_its_sentences_is_trained_on(tmp_path: Path):
    sentences = [f"In the year {year} the river carried more sand to the sea.\n" for year in range(1, 101)]
    refrain = "Every chapter of this book ends in these same nine words.\n"
    text = "".join(
        sentence + "* * *\n" + refrain * (place % 10 == 0) for place, sentence in enumerate(sentences)
    )
    text += refrain
    (tmp_path / "a.txt").write_text(text)
    spec = TextFile(file=str(tmp_path / "a.txt"), held_out_share=0.1)
    (train,), (held_out,) = read_documents([spec])
    assert text.endswith(held_out.response)
    assert abs(len(held_out.response) / len(text) - 0.1) < len(refrain) / len(text)
    assert text.splitlines()[held_out.line - 1] == held_out.response.splitlines()[0]
    begins = text.removesuffix(held_out.response)
    assert begins.count(refrain) == 9
    assert train.response == begins.replace(refrain, "")
    assert "* * *\n" in train.response  # of no words: it repeats everywhere


def test_chats_end_in_their_last_assistant_turn(tmp_path: Path):
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"),
             ("assistant", "4"), ("user", "thanks")]  # fmt: skip
    chat = [{"role": role, "content": content} for role, content in turns]
    both = {"prompt": chat[:2], "response": chat[2:3]}
    document, conversational = read(lines(tmp_path / "a.jsonl", {"messages": chat}, both))
    assert (document.turns, document.response) == (tuple(turns[:4]), "4")
    assert document.prompt == "Be brief.\n\n1+1?\n\n2\n\n2+2?"
    assert (conversational.turns, conversational.response) == (tuple(turns[:2]), "2")
    listed = read(lines(tmp_path / "b.jsonl", {"chats": [chat[:3], chat[:5]]}), text="chats")
    assert [document.response for document in listed] == ["2", "4"]


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"prompt": "q", "completion": "a"}, "q", "a"),
        ({"instruction": "q", "output": "a"}, "q", "a"),
        ({"instruction": "q", "input": " ", "output": "a"}, "q", "a"),
        ({"instruction": "q", "output": "a", "text": "whole"}, "", "whole"),  # as it was read before
        ({"instruction": "q", "input": "of this", "output": "a"}, "q\n\nof this", "a"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "q", "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                       {"role": "assistant", "content": "a"}]}, "q", "a"),
    ],
)  # fmt: skip
def test_the_usual_formats_need_no_names(tmp_path: Path, row: dict, prompt: str, response: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (document,), _ = read_documents([TextFile(file=str(path))])
    assert (document.prompt, document.response) == (prompt, response)
    assert all(role == "user" for role, _ in document.asked)


def test_blank_texts_marks_and_line_separators(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "a\u2028b"}\r\n\r\n{"text": "  "}\r\n{"text": "c"}'.encode())
    assert [(document.response, document.line) for document in read(str(path))] == [("a\u2028b", 1), ("c", 4)]


GOOD = {"text": "a"}
FAULTS = [
    ([GOOD, '{"text": "a"'], {}, "line 2: is not JSON: Expecting ',' delimiter at column 13"),
    ([GOOD, "", [1]], {}, "line 3: is a list, not an object"),
    ([GOOD, {"texts": "a"}], {"text": "text"}, "line 2: no field `text`; there are: texts"),
    ([{"question": "a"}], {}, "line 1: has none of the usual fields; there are: question"),
    ([{"text": "a", "messages": []}], {}, "line 1: could be several kinds of document"),
    ([{"text": 3}], {}, "line 1: `text` is a number, not text"),
    ([{"prompt": None, "response": "a"}], {}, "line 1: `prompt` is null, not text"),
    ([{"text": "  "}], {}, "every text in it is blank"),
    ([GOOD], {"prompt": "text"}, "`prompt` needs `response`"),
    ([GOOD], {"text": "text", "response": "text"}, "it goes with neither"),
    ([{"messages": [{"who": "human", "what": "a"}]}], {}, "is an object with who, what, not one with role"),
    ([{"messages": [{"role": "user", "content": None}]}], {}, "`messages[0].content` is null, not text"),
    ([{"messages": [{"role": "user", "content": "a"}]}], {}, "no turn of the role assistant to learn"),
    ([GOOD], {"held_out_share": 1e-9}, "no document is left to hold out: of 1"),
    ([], {}, "is empty"),
    ([GOOD, '{"text": "\\ud83d"}'], {}, "line 2: `text` is not text: \\ud83d at character 1 is half a pair"),
    (['{"text": "a", "n": ' + "9" * 5000 + "}"], {}, "line 1: cannot be read: Exceeds the limit (4300 digits)"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "fields", "message"), FAULTS)
def test_faults_are_one_line_with_file_and_place(tmp_path: Path, rows: list, fields: dict, message: str):
    file = lines(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(UserError) as error:
        read(file, **fields)
    assert message in error.value.message
    assert error.value.message.startswith(file)
    assert "\n" not in error.value.message


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_the_hint_at_another_format_makes_it_readable(tmp_path: Path, suffix: str):
    path = tmp_path / f"rows{suffix}"
    path.write_text("prompt,response\nq,a\n" if suffix == ".csv" else '[{"prompt": "q", "response": "a"}]')
    with pytest.raises(UserError, match=r"neither \.txt") as error:
        read(str(path))
    command = re.search("python (-c .*)", str(error.value))[1]
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True, cwd=tmp_path)
    (document,) = read(str(tmp_path / "rows.jsonl"))
    assert (document.prompt, document.response) == ("q", "a")


def test_files_that_cannot_be_read(tmp_path: Path):
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(UserError, match="line 2: is not UTF-8: byte 0xe9"):
        read(str(latin))
    with pytest.raises(UserError, match=r"did you mean `latin\.jsonl`"):
        read(str(tmp_path / "latins.jsonl"))
    with pytest.raises(UserError, match="there is no folder"):
        read(str(tmp_path / "nowhere" / "a.txt"))
    (tmp_path / "a.txt").write_text("one document\n")
    with pytest.raises(UserError, match="single line, so no share of its lines can be held out"):
        read(str(tmp_path / "a.txt"), held_out_share=0.5)
    with pytest.raises(UserError, match=r"`text` is of \.jsonl files"):
        read(str(tmp_path / "a.txt"), text="text")
