"""How docs are decoded: the tags that their tokens may have, and the CRF that reads them.

`words` finds words that stay whole, `allowed` what a doc allows, and `chains` runs the CRF.
"""
