"""What only the maker of a pipeline knows about it: the file that `bert-crf package` reads."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import srsly
from packaging.version import InvalidVersion, Version

from ...errors import BertCrfError, first_line

#: Names that pip, spaCy and Python take as they are.
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
#: What may be said of emissions beside their grams, by the names of the hub's model cards.
EMISSIONS = ("source", "training_type", "geographical_location", "hardware_used")


@dataclass(frozen=True)
class About:
    """What the maker of a pipeline says about it. All of it may be empty.

    name: name of the package without the language; "" for that in meta.json.
    version: version of the package; "" for that in meta.json.
    description: one sentence.
    author, email, url: who made it, and where to find more.
    license: licence of the pipeline, such as MIT.
    license_file: file with the text of the licence, relative to the file that names it.
    purpose: what the pipeline is for.
    labels: what each label means.
    scored_on: the texts that the scores are of.
    limits: what to know before relying on it, one sentence for each.
    example: a text. The model card shows its entities.
    base_model: name on a model hub of the encoder that was fine-tuned, such as bert-base-chinese.
    datasets: names on a model hub of the data sets that it was trained on.
    emissions: carbon dioxide of the training: `grams`, and `source`, `geographical_location` and
        `hardware_used` where they are known. Nothing measures it here.
    """

    name: str = ""
    version: str = ""
    description: str = ""
    author: str = ""
    email: str = ""
    url: str = ""
    license: str = ""
    license_file: str = ""
    purpose: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    scored_on: str = ""
    limits: list[str] = field(default_factory=list)
    example: str = ""
    base_model: str = ""
    datasets: list[str] = field(default_factory=list)
    emissions: dict[str, Any] = field(default_factory=dict)


def read_about(path: Path) -> About:
    """Read a YAML or JSON file with the fields of `About` as keys.

    A relative `license_file` is looked for beside the file.
    Raises BertCrfError for a file that can't be read, an unknown key, or a value of another type.
    """
    try:
        data = srsly.read_yaml(path)
    except Exception as err:  # the YAML reader has errors of its own
        raise BertCrfError(
            f"can't read {path} ({first_line(err)}). Write YAML or JSON with keys such as name."
        ) from err
    if not isinstance(data, dict):
        raise BertCrfError(f"{path} has no keys: write name, version, license and so on.")
    known = {item.name: item for item in fields(About)}
    if unknown := [str(key) for key in data if key not in known]:
        raise BertCrfError(f"{path}: unknown key {', '.join(unknown)}. Use {', '.join(known)}.")
    values = {key: _checked(path, key, value) for key, value in data.items() if value is not None}
    if license_file := values.get("license_file"):
        values["license_file"] = str(path.parent / license_file)
    about = About(**values)
    check_about(about, str(path))
    return about


def check_about(about: About, where: str = "the description of the package") -> None:
    """Check name, version and the file of the licence.

    where: what to name in an error.
    Raises BertCrfError for a value that no package can have.
    """
    if about.name and not _NAME.fullmatch(about.name):
        raise BertCrfError(
            f"{where}: name {about.name!r} can't name a package. Use small letters, digits and "
            "single underscores, beginning with a letter."
        )
    try:
        Version(about.version or "0")
    except InvalidVersion as err:
        raise BertCrfError(
            f"{where}: version {about.version!r} is no version of a package. Write one such as "
            "0.1.0."
        ) from err
    if about.license_file and not Path(about.license_file).is_file():
        raise BertCrfError(f"{where}: there is no license_file {about.license_file}.")


def _is_emissions(value: dict[str, Any]) -> bool:
    grams = value.get("grams")
    texts = {key: text for key, text in value.items() if key != "grams"}
    return (
        isinstance(grams, (int, float))
        and not isinstance(grams, bool)
        and grams >= 0
        and texts.keys() <= set(EMISSIONS)
        and all(isinstance(text, str) for text in texts.values())
    )


def _checked(path: Path, key: str, value: Any) -> Any:
    """The value of a key, if its type is right. Texts lose white space at their ends."""
    if key in ("limits", "datasets"):
        right = isinstance(value, list) and all(isinstance(line, str) for line in value)
        expected = "a list of sentences" if key == "limits" else "a list of names"
    elif key == "emissions":
        right = isinstance(value, dict) and _is_emissions(value)
        expected = f"grams: NUMBER, and texts for {', '.join(EMISSIONS)}"
    elif key == "labels":
        texts = [*value, *value.values()] if isinstance(value, dict) else [None]
        right, expected = all(isinstance(text, str) for text in texts), "a text for each label"
    else:
        right, expected = isinstance(value, str), "a text, in quotes if it looks like a number"
        value = value.strip() if right else value
    if not right:
        raise BertCrfError(f"{path}: {key} is {value!r}. Write {expected}.")
    return value
