"""The learning curve as SVG."""

import re
import xml.etree.ElementTree as ET

import pytest

from spacy_bert_crf.evaluation.figures import learning_picture

SVG = "{http://www.w3.org/2000/svg}"


def epochs(*scores):
    return [{"epoch": n, "loss": 5.0 / n, "ents_f": f} for n, f in enumerate(scores, 1)]


def test_each_epoch_is_a_point_and_the_best_has_a_circle():
    root = ET.fromstring(learning_picture(epochs(0.5, 0.9, 0.8), 2, "a < b"))
    titles = [title.text for title in root.iter(f"{SVG}title") if title.text.startswith("epoch")]
    assert titles == [
        *("epoch 1: 50", "epoch 2: 90", "epoch 3: 80"),
        *("epoch 1: 5", "epoch 2: 2.5", "epoch 3: 1.667"),
    ]
    points = [c.attrib for c in root.iter(f"{SVG}circle")]
    best = [c for c in points if c["class"] == "best"]
    dots = [c for c in points if c["class"] == "right"]
    assert [(c["cx"], c["cy"]) for c in best] == [(dots[i]["cx"], dots[i]["cy"]) for i in (1, 4)]
    first, second, third = (float(c["cy"]) for c in dots[:3])
    assert first > third > second  # up is better


@pytest.mark.parametrize("scores", [(1.0,), (0.99, 1.0), (0.0, 0.0), ()])
def test_the_axis_of_f1_ends_at_100(scores):
    picture = learning_picture(epochs(*scores), 1, "t")
    ticks = [float(n) for n in re.findall(r'text-anchor="end"[^>]*>([-\d.e]+)<', picture)][:5]
    assert len(ticks) == 5 and max(ticks) <= 100 and ticks == sorted(ticks)


def test_the_axes_do_not_go_below_zero():
    picture = learning_picture(epochs(0.0, 0.02, 0.9), 3, "t")
    labels = [float(text) for text in re.findall(r'text-anchor="end"[^>]*>(-?[\d.e-]+)<', picture)]
    assert len(labels) == 10 and min(labels) == 0.0
