"""The most waits, launches and copies that are allowed: a new one is seen in the tests.

For each workload of `workloads.py` and precision: host waits, kernels launched, copies to the
device, copies to the host, operations of CuPy. They were counted with the versions in
requirements.txt. `python -m tests.cuda.count --bounds` prints this table as it is now; lower the
numbers here when the code needs less.
"""

COLUMNS = ("waits", "launches", "copies in", "copies out", "CuPy")
#: (workload, precision) -> numbers in the order of COLUMNS.
BOUNDS = {
    ("predict one text", "bfloat16"): (4, 640, 5, 3, 0),
    ("predict 256 texts of 20 to 60 characters", "bfloat16"): (7, 1932, 11, 5, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "bfloat16"): (14, 25740, 13, 8, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "bfloat16"): (9, 2255, 11, 7, 0),
    ("nbest of 32 texts, 5 each", "bfloat16"): (3, 958, 5, 3, 0),
    ("update of 16 texts", "bfloat16"): (5, 1379, 18, 4, 4),
    ("predict one text", "float32"): (4, 448, 5, 3, 0),
    ("predict 256 texts of 20 to 60 characters", "float32"): (7, 1116, 11, 5, 0),
    ("predict 255 texts of 30 characters and one of 4,000", "float32"): (14, 24960, 13, 8, 0),
    ("predict 256 texts of 20 to 60 characters, with scores", "float32"): (9, 1439, 11, 7, 0),
    ("nbest of 32 texts, 5 each", "float32"): (3, 754, 5, 3, 0),
    ("update of 16 texts", "float32"): (5, 959, 18, 4, 4),
}
