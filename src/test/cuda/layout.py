"""The packed order of A and B (src/main/cuda/lora.cuh), both ways. All tensors are bf16."""

import torch

CHUNK = 512  # reduced values of a piece of A


def padded(value, block):
    return -(-value // block) * block


def pad(matrix, rows, columns):
    out = torch.zeros(rows, columns, dtype=matrix.dtype, device=matrix.device)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


def pack_a(a):
    """[R, H], R a multiple of 16 and H of 32. Row r of the result is rank block r, cut every 16 * CHUNK values."""
    r, h = a.shape
    return a.reshape(r // 16, 2, 8, h // 32, 4, 2, 2, 2).permute(0, 3, 5, 2, 4, 6, 1, 7).reshape(r // 16, h * 16).contiguous()


def unpack_a(packed, r, h):
    return packed.reshape(r // 16, h // 32, 2, 8, 4, 2, 2, 2).permute(0, 6, 3, 1, 4, 2, 5, 7).reshape(r, h)


def pack_b(b):
    """[N, R], N a multiple of 64 and R of 16. Row n of the result is the piece of feature block n."""
    n, r = b.shape
    return b.reshape(n // 64, 8, 4, 2, r // 16, 4, 2, 2).permute(0, 4, 2, 1, 5, 6, 3, 7).reshape(n // 64, r * 64).contiguous()


def unpack_b(packed, n, r):
    return packed.reshape(n // 64, r // 16, 4, 8, 4, 2, 2, 2).permute(0, 3, 2, 6, 1, 4, 5, 7).reshape(n, r)
