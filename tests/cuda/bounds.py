"""The most waits, launches and copies that are allowed: a new one is seen in the tests.

For each workload of `workloads.py` and precision: host waits, kernels launched, copies to the
device, copies to the host, operations of CuPy. They were counted with the versions in
requirements.txt. `python -m tests.cuda.count --bounds` prints this table as it is now; lower the
numbers here when the code needs less.
"""

COLUMNS = ("waits", "launches", "copies in", "copies out", "CuPy")
#: (workload, precision) -> numbers in the order of COLUMNS.
BOUNDS = {
    ("predict one text", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "bfloat16"): (1, 129, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "bfloat16"): (1, 129, 1, 1, 0),
    ("nbest of 32 texts, 5 each", "bfloat16"): (1, 129, 1, 1, 0),
    ("update of 16 texts", "bfloat16"): (3, 1411, 2, 3, 0),
    ("predict one text", "float32"): (1, 127, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters", "float32"): (1, 127, 1, 1, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "float32"): (1, 253, 1, 1, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "float32"): (1, 127, 1, 1, 0),
    ("nbest of 32 texts, 5 each", "float32"): (1, 127, 1, 1, 0),
    ("update of 16 texts", "float32"): (3, 991, 2, 3, 0),
}
