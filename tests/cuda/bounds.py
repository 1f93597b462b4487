"""The most waits, launches and copies that are allowed: a new one is seen in the tests.

For each workload of `workloads.py` and precision, in the order of COLUMNS:

- waits: times that the host waits for the device. Waiting for an event counts unless the host has
  waited for something later already.
- launches: operations that compute, of 12 layers. Views and allocations are none. CUDA may need
  several kernels for one.
- copies in, copies out: copies to the device and to the host, whether the host waits or not.
- CuPy: operations of CuPy. Each is a launch, too.

They were counted with the versions in requirements.txt. `python -m tests.cuda.count --bounds`
prints this table as it is now; lower the numbers here when the code needs less.

A prediction needs no more than GOAL. The pretend device has no Triton, so that an update waits
twice there: for the check of the CRF's scan, and for its loss. With the kernels of
`spacy_bert_crf.crf.kernels` it waits for its loss only.
"""

COLUMNS = ("waits", "launches", "copies in", "copies out", "CuPy")
#: (workload, precision) -> numbers in the order of COLUMNS.
BOUNDS = {
    ("predict one text", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "bfloat16"): (1, 129, 1, 1, 0),
    ("nbest of 32 texts, 5 each", "bfloat16"): (1, 129, 1, 1, 0),
    ("update of 16 texts", "bfloat16"): (2, 1417, 2, 3, 0),
    ("predict one text", "float32"): (1, 127, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters", "float32"): (1, 253, 1, 1, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "float32"): (1, 253, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "float32"): (1, 253, 1, 1, 0),
    ("nbest of 32 texts, 5 each", "float32"): (1, 127, 1, 1, 0),
    ("update of 16 texts", "float32"): (2, 997, 2, 3, 0),
}
#: What a batch of predictions may need at most: waits, copies to the device, launches of a layer in
#: each pass. A pass is all texts of the batch, in float32 all of a similar length.
GOAL = {"waits": 1, "copies in": 1, "launches": 12}
