"""The rows of docs as a list of arrays, and joined again."""

import copy
import pickle

import numpy as np
import pytest
import torch
from thinc.api import NumpyOps, get_current_ops, require_cpu, set_current_ops

from spacy_bert_crf.model.crf_batches import Emissions
from spacy_bert_crf.model.shared.rows import join_rows, split_rows

CPU = torch.device("cpu")
LENGTHS = [2, 0, 3]


@pytest.fixture
def rows():
    return torch.arange(20.0).view(5, 4)


def test_rows_that_were_split_are_joined_without_a_copy(rows):
    parts = split_rows(rows, LENGTHS)
    assert [part.tolist() for part in parts] == [rows[:2].tolist(), [], rows[2:].tolist()]
    assert join_rows(parts, CPU).data_ptr() == rows.data_ptr()
    assert Emissions.of(parts, CPU).rows.data_ptr() == rows.data_ptr()
    assert Emissions.of(parts, CPU).lengths == LENGTHS


@pytest.mark.parametrize("change", ["replace", "append", "drop", "list", "copy", "pickle"])
def test_a_changed_list_is_joined_as_it_is(rows, change):
    parts = split_rows(rows, LENGTHS)
    if change == "replace":
        parts[0] = parts[0] + 1
    elif change == "append":
        parts.append(np.ones((1, 4), np.float32))
    elif change == "drop":
        del parts[2]
    else:
        again = {
            "list": list,
            "copy": copy.deepcopy,
            "pickle": lambda x: pickle.loads(pickle.dumps(x)),
        }
        parts = again[change](parts)
        parts[0][0] = 7  # an array of the list may be changed in place
    joined = join_rows(parts, CPU)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(parts))


def test_joining_does_not_depend_on_the_current_operations(rows):
    """A pipeline may have been loaded on another device than the current one."""

    class Elsewhere(NumpyOps):
        xp = None

    parts = list(split_rows(rows, LENGTHS))
    set_current_ops(Elsewhere())
    try:
        assert isinstance(get_current_ops(), Elsewhere)
        assert torch.equal(join_rows(parts, CPU), rows)
    finally:
        require_cpu()


def test_empty_docs_may_have_another_width(rows):
    parts = [np.zeros((0, 0), np.float32), rows[:2].numpy(), rows[2:].numpy()]
    assert torch.equal(join_rows(parts, CPU), rows)
    assert join_rows(parts[:1], CPU).shape == (0, 0)


def test_arrays_that_cannot_be_written_are_joined(rows):
    parts = [rows[:2].numpy(), rows[2:].numpy()]
    for part in parts:
        part.flags.writeable = False
    assert torch.equal(join_rows(parts, CPU), rows)
    assert torch.equal(join_rows(parts[:1], CPU), rows[:2])


def test_rows_of_a_prediction_can_be_trained_on():
    with torch.inference_mode():
        parts = split_rows(torch.ones(5, 4), LENGTHS)
    joined = join_rows(parts, CPU).requires_grad_()
    (joined * joined).sum().backward()
    assert torch.equal(joined.grad, torch.full((5, 4), 2.0))


def test_the_dtype_stays():
    assert join_rows(split_rows(torch.ones(5, 4).double(), LENGTHS), CPU).dtype is torch.float64
