"""Tasks: samples, a prompt and a scorer; one file a task."""

from stillmark.study.schema import ShuffledObjects
from stillmark.tasks.shuffled_objects import ShuffledObjectsTask
from stillmark.tasks.task import Sample, Task, TrainableTask

TASKS = {"shuffled_objects": ShuffledObjectsTask}

__all__ = ["TASKS", "Sample", "Task", "TrainableTask", "make_task"]


def make_task(spec: ShuffledObjects) -> TrainableTask:
    """The question task that a study's entry describes."""
    return TASKS[spec.kind](spec)
