"""The seam between thinc and torch.

Layers that turn docs into emissions, shims that hold the torch modules, batches for the CRF, the
optimizer, and the file with an encoder's weights. May import `crf`, `encoder`, `errors` and the
private helpers of the package. Knows no annotation and no component.
"""
