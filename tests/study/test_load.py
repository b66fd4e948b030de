"""Every fault of a study file is named with its path, all in one go, and nothing is run."""

from pathlib import Path

import pytest
import yaml

from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.study import load_study, study_from_text

STUDIES = Path(__file__).parents[2] / "studies"
TINY = (STUDIES / "tiny.yaml").read_text()


def test_shipped_studies_load():
    for path in STUDIES.glob("*.yaml"):
        assert load_study(path).name == path.stem


def faults_of(*changes: tuple[str, str]) -> str:
    """What is said of the tiny study with these texts replaced."""
    text = TINY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        Plan(study_from_text(text, "tiny.yaml"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", "seed: unknown key; did you mean `seeds`?"),
        ("seeds: [0, 1]", "seeds: []", "seeds: "),
        ("seeds: [0, 1]", "seeds: [0, 0]", "seeds: the same seed is given twice"),
        ("seeds: [0, 1]", "seeds: [zero]", "seeds.0: should be a valid integer, is 'zero'"),
        ("threads: 1", "threads: 0", "threads: should be greater than 0, is 0"),
        ("name: tiny", "", "name: is missing"),
        ("name: tiny", "name: a/b", "name: "),
        ("text: answers", "text: answer", "vanilla-small.recipe.text: `answer` is not possible; did you mean `answers`?"),
        ("text: answers, train", "texts: answers, train", "vanilla-small.recipe.texts: unknown key; did you mean `text`?"),
        ("train_flops: 4e9", "train_flops: lots", "arms.vanilla-small.recipe.train_flops: should be a valid number"),
        ("train_flops: 4e9", "train_flops: -4e9", "recipe.train_flops: should be greater than 0, is -4000000000.0"),
        ("train_flops: 4e9", "train_flops: 2e3", "arms.vanilla-small.recipe.train_flops: 2e+03 is less than one step"),
        ("checkpoints: 3", "checkpoints: 0", "recipe.checkpoints: should be greater than or equal to 1, is 0"),
        ("checkpoints: 3", "checkpoints: 3, first_checkpoint: 0.0001", "recipe.first_checkpoint: falls at"),
        ("model: small", "model: smal", "arms.vanilla-small.model: there is no model `smal`; did you mean `small`?"),
        ("teacher: teacher", "teacher: tutor", "arms.traces-small.teacher: there is no arm `tutor`; arms: vanilla-small"),
        ("base: vanilla-small", "base: vanilla-large", "base: `vanilla-large` is a `large`, this arm a `small`"),
        ("kind: teacher", "kind: teacher\n    teacher: traces-small", "teacher: a cycle: "),
        ("kind: distilled", "kind: vanilla", "arms.traces-small.kind: a vanilla arm has no teacher"),
        ("kind: vanilla", "kind: distilled", "arms.vanilla-small.kind: a distilled arm has a teacher"),
        ("    teacher: teacher\n", "", "arms.traces-small.teacher: is missing"),
        ("      traces: {prompts: 300, samples_per_prompt: 2, temperature: 0.3, max_new_tokens: 40}\n", "",
         "arms.traces-small.recipe.traces: is missing"),
        ("min_swaps: 0", "min_swaps: 3", "tasks.shuffled.min_swaps: 3 is more than max_swaps, 1"),
        ("objects: 3", "objects: 30", "tasks.shuffled.objects: should be less than or equal to 7, is 30"),
        ("[traces-small, traces", "[trace-small, traces", "conclusion.students[0]: there is no arm `trace-small`; did you"),
        ("seeds: [0, 1]", "seeds: [0, 1", "tiny.yaml, line "),
        ("threads: 1", "threads: 1\nthreads: 2", "tiny.yaml, line 6: not valid YAML: the key `threads` is given twice"),
        ("models:", "models: []\nmodel:", "models: should be a valid dictionary, is a list"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_path(old: str, new: str, said: str):
    assert said in faults_of((old, new))


def test_all_faults_are_reported_at_once():
    said = faults_of(
        ("seeds: [0, 1]", "seed: [0]"), ("model: small", "model: smal"), ("min_swaps: 0", "min_swaps: 9")
    )
    assert said.count("\n  ") == 4, said  # `seed` unknown, `seeds` missing, no model `smal`, swaps


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- list", "a: !!python/object:os.system {}", "\0", "a: *b"]
)
def test_what_is_no_study_is_one_clear_message(text: str):
    with pytest.raises(UserError, match=r"study\.yaml"):
        study_from_text(text)


def test_a_missing_file_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean"):
        load_study(STUDIES / "tinny.yaml")


def test_numbers_may_be_written_as_people_do():
    study = study_from_text(TINY)
    assert study.arms["vanilla-small"].recipe.train_flops == 4e9
    assert isinstance(yaml.safe_load("2e8"), str), "PyYAML reads 2e8 as text, which is why the loader differs"


def test_the_guides_study_is_sound():
    guide = (STUDIES.parent / "docs" / "guide" / "study.md").read_text()
    study = study_from_text(guide.split("```yaml\n")[1].split("```")[0])
    assert Plan(study).jobs
