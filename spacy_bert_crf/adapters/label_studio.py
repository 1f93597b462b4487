"""A machine learning backend for Label Studio: predictions with probabilities, and training.

Needs the extra [label-studio]. The script that Label Studio starts has two lines:

    from spacy_bert_crf.adapters.label_studio import BertCrfBackend
    class Backend(BertCrfBackend): pipeline = "training/mine/model-best"

Source of the interface: label-studio-ml 1.0.9 and the newer one of its repository
(https://github.com/HumanSignal/label-studio-ml-backend).
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Optional

from label_studio_ml.model import LabelStudioMLBase

from .._files import write_text
from ..errors import BertCrfError
from ..evaluation.selection.tasks import label_studio_region
from .finder import Finder
from .label_studio_training import continue_training, read_project

logger = logging.getLogger(__name__)

#: The pipeline, if the class does not name one.
PIPELINE = "BERT_CRF_PIPELINE"
#: Where trained pipelines are written, if neither the class nor Label Studio name a folder.
OUTPUT = "BERT_CRF_OUTPUT"
#: The event of the newer backend for its button "Start training".
START_TRAINING = "START_TRAINING"
#: A file that names the newest pipeline of a folder of trained ones.
NEWEST = "newest.txt"


class Controls(NamedTuple):
    """The names in a labelling config that a region refers to.

    label: name of its Labels.
    text: name of its Text.
    value: key of the text in the data of a task.
    names: the label in Label Studio of each label of the pipeline that it has.
    labels: all labels in Label Studio.
    """

    label: str
    text: str
    value: str
    names: dict[str, str]
    labels: tuple[str, ...]


def find_controls(parsed: Mapping[str, Any], labels: Iterable[str]) -> Controls:
    """The first Labels of a labelling config that marks a Text.

    A label of the pipeline is that of the same name, whatever its case, or the one whose
    `predicted_values` name it.

    parsed: the labelling config, as label-studio-tools parses it.
    labels: labels of the pipeline.
    Raises BertCrfError if there is none, or if no label fits.
    """
    for name, control in parsed.items():
        inputs = [each for each in control.get("inputs", ()) if each["type"] == "Text"]
        if control["type"] != "Labels" or not inputs:
            continue
        attributes = control.get("labels_attrs") or dict.fromkeys(control["labels"], {})
        known: dict[str, str] = {}
        for label, attrs in attributes.items():
            given = getattr(attrs, "attr", attrs).get("predicted_values", "")
            for value in (label, *given.split(",")):
                known[value.strip().casefold()] = label
        names = {each: known[each.casefold()] for each in labels if each.casefold() in known}
        if not names:
            raise BertCrfError(
                f"the labelling config has the labels {', '.join(attributes)}, the pipeline "
                f"{', '.join(labels)}: give a Label the same name, or predicted_values."
            )
        to = control["to_name"][0]
        return Controls(name, to, inputs[0]["value"], names, tuple(attributes))
    raise BertCrfError("the labelling config has no Labels of a Text: add them to the project.")


class BertCrfBackend(LabelStudioMLBase):  # type: ignore[misc]
    """Predicts entities with their probabilities, and continues the training when it is told to.

    Set in a subclass, or by the environment:

    pipeline: folder of the trained pipeline (BERT_CRF_PIPELINE).
    component: which bert_crf, if there are several.
    output: folder for newly trained pipelines (BERT_CRF_OUTPUT).
    train_events: events of Label Studio that start a training. Each annotation may be one.
    settings: settings of the training, such as {"training.max_epochs": 5}.
    """

    pipeline: str = ""
    component: str = ""
    output: str = ""
    train_events: Sequence[str] = (START_TRAINING,)
    settings: Mapping[str, Any] = {}

    _finder: Optional[tuple[Path, Finder]] = None

    def setup(self) -> None:
        """The version of the newer backend is the name of the pipeline."""
        self.set("model_version", str(self._path()))

    def _output(self) -> str:
        return self.output or os.environ.get(OUTPUT, "")

    def _path(self) -> Path:
        """The newest pipeline: one that was trained here, or the one that was given."""
        trained = (getattr(self, "train_output", None) or {}).get("pipeline")
        newest = Path(self._output()) / NEWEST if self._output() else None
        if not trained and newest is not None and newest.is_file():
            trained = newest.read_text(encoding="utf8").strip()
        path = trained or self.pipeline or os.environ.get(PIPELINE, "")
        if not path:
            raise BertCrfError(f"there is no pipeline: set `pipeline` in the class, or {PIPELINE}.")
        return Path(path)

    def finder(self) -> Finder:
        """Finds entities with the newest pipeline, which is loaded when it changes."""
        path = self._path()
        if self._finder is None or self._finder[0] != path:
            type(self)._finder = (path, Finder(path, self.component))
        assert self._finder is not None
        return self._finder[1]

    def predict(
        self, tasks: list[dict[str, Any]], context: Any = None, **further: Any
    ) -> list[dict[str, Any]]:
        """A prediction for each task, with the probability of each entity.

        The score of a task is the mean of these, and 1.0 without entities.

        tasks: tasks of Label Studio.
        context, further: not used.
        Raises BertCrfError if the labelling config or a task does not fit.
        """
        finder, version = self.finder(), self._path().as_posix()
        controls = find_controls(self.parsed_label_config, finder.labels)
        texts = [_text(task, controls.value) for task in tasks]
        predictions = []
        for number, (text, found) in enumerate(zip(texts, finder.find(texts), strict=True)):
            regions = []
            for index, entity in enumerate(found.entities):
                if entity.label not in controls.names:
                    logger.warning("Label Studio has no label for %s: left out", entity.label)
                    continue
                renamed = entity._replace(label=controls.names[entity.label])
                doubtful = entity in found.uncertain
                region = label_studio_region(text, f"{number}-{index}", renamed, doubtful)
                regions.append(region | {"from_name": controls.label, "to_name": controls.text})
            score = fmean([region["score"] for region in regions]) if regions else 1.0
            predictions.append({"model_version": version, "score": score, "result": regions})
        return predictions

    def process_event(
        self, event: str, data: dict[str, Any], job_id: str, additional_params: dict[str, Any]
    ) -> Any:
        """Train at the events that `train_events` names, and pass over the others."""
        if event in self.train_events:
            return self.fit(event, data, **additional_params)
        return None

    def fit(self, event: Any, data: Any = None, **further: Any) -> dict[str, Any]:
        """Continue the training of the pipeline on all annotated tasks of the project.

        event: the event; or the annotated tasks, where Label Studio sends them.
        data: what Label Studio sends with an event. Its project is read over Label Studio's API.
        further: `workdir` is the folder for the result, if `output` is not set.
        RETURNS: the folder of the new pipeline as `pipeline`, and its scores.
        Raises BertCrfError if there are too few tasks, or a command fails.
        """
        tasks = read_project(data) if isinstance(event, str) else list(event)
        folder = self._output() or (data if isinstance(data, str) else further.get("workdir"))
        if not folder:
            raise BertCrfError(f"there is no folder for the result: set `output`, or {OUTPUT}.")
        finder = self.finder()
        controls = find_controls(self.parsed_label_config, finder.labels)
        own: dict[str, str] = {}
        for ours, theirs in controls.names.items():
            own.setdefault(theirs, ours)  # of several, the first of the pipeline
        result = continue_training(
            self._path(),
            tasks,
            Path(folder),
            labels={label: own.get(label, label) for label in controls.labels},
            settings=self.settings,
        )
        write_text(Path(folder) / NEWEST, result["pipeline"] + "\n")
        return result


def _text(task: Mapping[str, Any], key: str) -> str:
    text = (task.get("data") or {}).get(key)
    if not isinstance(text, str):
        raise BertCrfError(
            f"task {task.get('id')} has no text {key!r} in its data: name it in the labelling "
            'config, as <Text value="$text"/>.'
        )
    return text
