"""Peers of the speed benchmark that run the ONNX exports: onnxruntime and OpenVINO.

python onnx_runtimes.py   (orders on stdin, see peer_loop.py)
"""

from typing import Any

import numpy as np
from batching import Batched, windows
from peer_loop import serve
from transformers import AutoTokenizer

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Runtime(Batched):
    """From ids to emissions. folder: an ONNX export of the package."""

    def __init__(self, folder: str, texts: list[str], threads: int) -> None:
        super().__init__(
            windows(AutoTokenizer.from_pretrained(folder), texts), sum(map(len, texts))
        )
        self.open(f"{folder}/emissions.onnx", threads)

    def open(self, path: str, threads: int) -> None:
        """Open a model."""
        raise NotImplementedError

    def prepare(self, rows: list[list[int]]) -> Any:
        longest = max(map(len, rows))
        ids = np.array([row + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        arrays = dict(zip(NAMES, (ids, mask, np.zeros_like(ids)), strict=True))
        return {name: arrays[name] for name in self.inputs}


class OnnxRuntime(Runtime):
    """onnxruntime, on the CPU. Threads spin within a run, not between runs."""

    def open(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [value.name for value in self.session.get_inputs()]

    def run_batch(self, batch: Any) -> None:
        self.session.run(None, batch)


class OpenVino(Runtime):
    """OpenVINO, on the CPU, one stream; float32 where the model is."""

    def open(self, path: str, threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Otherwise it takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = openvino.Core().read_model(path)
        self.inputs = [port.get_any_name() for port in model.inputs]
        self.request = openvino.compile_model(model, "CPU", settings).create_infer_request()

    def run_batch(self, batch: Any) -> None:
        self.request.infer(batch)


if __name__ == "__main__":
    serve({"onnxruntime": OnnxRuntime, "openvino": OpenVino})
