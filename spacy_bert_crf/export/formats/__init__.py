"""The formats of an export, one module each.

To add a format, write one module here that ends in a `FORMAT` (see format.Format). Add it to the
table below, and put the text of its README into `export/readme/<name>.md`. The command, the
checks after writing, `compare-exports` and the tests then know it.

A module here may import `format`, `quiet` and another format that it builds on. Of the room above
it may import `graphs`, `trained` and `calibration_inputs`, and it may import the rooms below that
one. It never imports `folder`, `open`, `import_model` or `compare`, which are built on this table.
"""

from . import bert4torch, best_model, huggingface, onnx, torch_int8, torchscript
from .format import Format

#: Formats that are written into folders of their own, by name.
FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        bert4torch.FORMAT,
        huggingface.FORMAT,
        torchscript.FORMAT,
        torchscript.FLOAT16,
        torchscript.BFLOAT16,
        torch_int8.FORMAT,
        onnx.FORMAT,
        onnx.FLOAT16,
        onnx.DYNAMIC_INT8,
        onnx.STATIC_INT8,
    )
}
#: The same and best_model.pt, the folder that holds the others.
READABLE: dict[str, Format] = {best_model.WEIGHTS: best_model.FORMAT, **FORMATS}
