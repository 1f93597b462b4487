"""Triton kernels of forward-backward, on scores in float64. `scan.py` launches them.

Both work like `LogScan`: a step is a log-sum-exp over K * K, and states are relative to the
largest entry of their step, so nothing underflows.
"""

# Triton reads the arguments of a kernel in its own way, so they have no types.
# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n_batch", "n_steps", "n_tags"])
def scan_kernel(
    emissions,  # [B, T, n_tags]
    allowed,  # bytes [B, T, n_tags], used if HAS_ALLOWED
    start,  # float64 [n_tags]
    end,  # float64 [n_tags]
    transitions,  # float64 [n_tags, n_tags]
    lengths,  # int64 [B]
    excluded,  # score of tags that are not allowed
    states,  # output: alpha and gamma. float64 [2, B, T, n_tags], used if STORE_STATES
    incoming_of,  # output: alpha without emissions. float64 [B, T, n_tags], used if STORE_ALL
    scale_of,  # output: what each step subtracted. float64 [B, T], used if STORE_ALL
    log_z,  # output. float64 [B]
    n_batch,
    n_steps,
    n_tags,
    HAS_ALLOWED: tl.constexpr,
    STORE_STATES: tl.constexpr,
    STORE_ALL: tl.constexpr,
    K: tl.constexpr,  # n_tags, rounded up to a power of two
):
    """One direction of one sequence. Grid: (B, 2), or (B, 1) for log Z alone.

    The second direction takes the steps from the last to the first, with transposed transitions.
    """
    sequence = tl.program_id(0).to(tl.int64)
    way = tl.program_id(1)
    tags = tl.arange(0, K)
    there = tags < n_tags
    length = tl.maximum(tl.load(lengths + sequence), 1).to(tl.int32)
    stride_from = (1 - way) * n_tags + way
    stride_to = (1 - way) + way * n_tags
    # shape: (K_from, K_to)
    pairs = tl.load(
        transitions + tags[:, None] * stride_from + tags[None, :] * stride_to,
        mask=there[:, None] & there[None, :],
        other=float("-inf"),
    )
    first = tl.load(start + tags, mask=there, other=float("-inf"))
    last = tl.load(end + tags, mask=there, other=float("-inf"))
    first = tl.where(way == 0, first, last)

    # A row is loaded while the step before is computed.
    forwards = 1 - 2 * way
    step = way * (length - 1)
    row = (sequence * n_steps + step) * n_tags + tags
    loaded = tl.load(emissions + row, mask=there, other=0.0)
    if HAS_ALLOWED:
        is_open = tl.load(allowed + row, mask=there, other=1)
    incoming = first
    state = first
    total = tl.sum(tl.zeros([K], dtype=tl.float64), 0)
    for at in range(length):
        scores = loaded.to(tl.float64)
        if HAS_ALLOWED:
            scores = tl.where(is_open != 0, scores, excluded)
        here = sequence * n_steps + step
        step = way * (length - 1) + tl.minimum(at + 1, length - 1) * forwards
        row = (sequence * n_steps + step) * n_tags + tags
        loaded = tl.load(emissions + row, mask=there, other=0.0)
        if HAS_ALLOWED:
            is_open = tl.load(allowed + row, mask=there, other=1)
        if at > 0:
            paths = state[:, None] + pairs
            best = tl.max(paths, 0)
            best = tl.where(best == float("-inf"), 0.0, best)
            incoming = tl.log(tl.sum(tl.exp(paths - best[None, :]), 0)) + best
        state = incoming + scores
        top = tl.max(state, 0)
        top = tl.where(top == float("-inf"), 0.0, top)  # Without a path, -inf - -inf is nan.
        state = state - top
        total += top
        if STORE_STATES:
            out = way * n_batch * n_steps.to(tl.int64) + here
            tl.store(states + out * n_tags + tags, state, mask=there)
        if STORE_ALL:  # noqa: SIM102 - of a constant and a number of the program
            if way == 0:
                tl.store(incoming_of + here * n_tags + tags, incoming, mask=there)
                tl.store(scale_of + here, top)

    if way == 0:
        final = state + last
        top = tl.max(final, 0)
        top = tl.where(top == float("-inf"), 0.0, top)
        tl.store(log_z + sequence, tl.log(tl.sum(tl.exp(final - top), 0)) + top + total)


@triton.jit(do_not_specialize=["n_batch", "n_steps", "n_tags", "n_parts"])
def gradient_kernel(
    states,  # alpha and gamma of `scan_kernel`. float64 [2, B, T, n_tags]
    allowed,  # bytes [B, T, n_tags], used if HAS_ALLOWED
    start,  # float64 [n_tags]
    transitions,  # float64 [n_tags, n_tags]
    lengths,  # int64 [B]
    weights,  # weight of each sequence. float64 [B]
    d_emissions,  # output, which holds zeros. [B, T, n_tags]
    sums,  # output: sums of each program. float64 [programs, n_tags * n_tags + 2 * n_tags]
    n_batch,
    n_steps,
    n_tags,
    n_parts,  # number of parts of SIZE steps in T steps
    HAS_ALLOWED: tl.constexpr,
    K: tl.constexpr,  # n_tags, rounded up to a power of two
    SIZE: tl.constexpr,  # number of steps of a part
):
    """Weighted marginals of parts of the sequences. Grid: (programs,)

    Each program takes every programs-th part. Its sums are over its own parts: of the marginals
    of pairs, of the first steps, and of the last steps. So the result does not depend on the order
    in which programs run.
    """
    tags = tl.arange(0, K)
    there = tags < n_tags
    square = there[:, None] & there[None, :]
    places = tags[:, None] * n_tags + tags[None, :]
    # shape: (K_from, K_to)
    pairs = tl.load(transitions + places, mask=square, other=float("-inf"))
    first = tl.load(start + tags, mask=there, other=float("-inf"))
    d_pairs = tl.zeros([K, K], dtype=tl.float64)
    d_start = tl.zeros([K], dtype=tl.float64)
    d_end = tl.zeros([K], dtype=tl.float64)
    for part in range(tl.program_id(0), n_batch * n_parts, tl.num_programs(0)):
        sequence = (part // n_parts).to(tl.int64)
        begin = (part % n_parts) * SIZE
        length = tl.maximum(tl.load(lengths + sequence), 1).to(tl.int32)
        weight = tl.load(weights + sequence)
        alphas = states + sequence * n_steps * n_tags + tags
        gammas = alphas + n_batch.to(tl.int64) * n_steps * n_tags
        for step in range(begin, tl.minimum(begin + SIZE, length)):
            gamma = tl.load(gammas + step * n_tags, mask=there, other=float("-inf"))
            if step == 0:
                joint = first + gamma
                top = tl.max(joint, 0)
                top = tl.where(top == float("-inf"), 0.0, top)
                joint = tl.exp(joint - top)
                total = tl.sum(joint, 0)
                # Without a path the total is 0, and so are the marginals.
                unary = joint * tl.where(total == 0.0, 0.0, weight / total)
                d_start += unary
            else:
                alpha = tl.load(alphas + (step - 1) * n_tags, mask=there, other=float("-inf"))
                paths = alpha[:, None] + pairs + gamma[None, :]
                top = tl.max(tl.max(paths, 0), 0)
                top = tl.where(top == float("-inf"), 0.0, top)
                paths = tl.exp(paths - top)
                total = tl.sum(tl.sum(paths, 0), 0)
                paths = paths * tl.where(total == 0.0, 0.0, weight / total)
                d_pairs += paths
                unary = tl.sum(paths, 0)
            if step == length - 1:
                d_end += unary
            row = (sequence * n_steps + step) * n_tags + tags
            if HAS_ALLOWED:  # Excluded scores have no gradient.
                is_open = tl.load(allowed + row, mask=there, other=1)
                unary = tl.where(is_open != 0, unary, 0.0)
            tl.store(d_emissions + row, unary.to(d_emissions.dtype.element_ty), mask=there)
    own = sums + tl.program_id(0).to(tl.int64) * (n_tags + 2) * n_tags
    tl.store(own + places, d_pairs, mask=square)
    tl.store(own + n_tags * n_tags + tags, d_start, mask=there)
    tl.store(own + (n_tags + 1) * n_tags + tags, d_end, mask=there)
