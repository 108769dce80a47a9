"""The few driver calls the lab needs: modules, and launches with clusters and programmatic dependent launch."""

import ctypes

import torch

_CLUSTER_DIMENSION = 4
_PROGRAMMATIC_STREAM_SERIALIZATION = 6


class _Attribute(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint32 * 16)]


class _Config(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint32),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint32),
    ]


_driver = None


def _call(name, *arguments):
    global _driver
    if _driver is None:
        _driver = ctypes.CDLL("libcuda.so.1")
    status = getattr(_driver, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        _driver.cuGetErrorString(status, ctypes.byref(text))
        raise RuntimeError(f"{name}: {text.value.decode() if text.value else status}")


class Module:
    """A fatbin in the current context."""

    def __init__(self, path):
        torch.zeros(1, device="cuda")  # makes torch's context current
        self.module = ctypes.c_void_p()
        with open(path, "rb") as file:
            _call("cuModuleLoadData", ctypes.byref(self.module), file.read())

    def kernel(self, name, shared=0):
        function = ctypes.c_void_p()
        _call("cuModuleGetFunction", ctypes.byref(function), self.module, name.encode())
        if shared > 48 * 1024:
            _call("cuFuncSetAttribute", function, 8, ctypes.c_int(shared))
        return Kernel(function, shared)


class Kernel:
    """A function of tensors (their addresses), ints and floats (32 bits), ("l", int) (64 bits) or bytes (structures)."""

    def __init__(self, function, shared):
        self.function = function
        self.shared = shared

    def allow_large_clusters(self):
        """Of 16 blocks, which not every device has room for."""
        _call("cuFuncSetAttribute", self.function, 14, ctypes.c_int(1))

    def __call__(self, grid, threads, arguments, cluster=1, dependent=False, shared=None):
        values = []
        for a in arguments:
            if a is None:
                values.append(ctypes.c_uint64(0))
            elif isinstance(a, torch.Tensor):
                values.append(ctypes.c_uint64(a.data_ptr()))
            elif isinstance(a, bytes):
                values.append((ctypes.c_uint8 * len(a)).from_buffer_copy(a))
            elif isinstance(a, tuple):
                values.append(ctypes.c_uint64(a[1]))
            elif isinstance(a, float):
                values.append(ctypes.c_float(a))
            else:
                values.append(ctypes.c_int(int(a)))
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        attributes = (_Attribute * 2)()
        count = 0
        if cluster > 1:
            attributes[count].id = _CLUSTER_DIMENSION
            attributes[count].value[0:3] = [cluster, 1, 1]
            count += 1
        if dependent:
            attributes[count].id = _PROGRAMMATIC_STREAM_SERIALIZATION
            attributes[count].value[0] = 1
            count += 1
        grid = tuple(grid) + (1,) * (3 - len(grid))
        config = _Config((ctypes.c_uint32 * 3)(*grid), (ctypes.c_uint32 * 3)(threads, 1, 1),
                         self.shared if shared is None else shared,
                         torch.cuda.current_stream().cuda_stream, attributes, count)
        _call("cuLaunchKernelEx", ctypes.byref(config), self.function, pointers, None)


def tensor_map(tensor, dimensions, strides, box):
    """A tensor map of bf16 elements, innermost dimension first, with a swizzle of 128 bytes; strides in elements."""
    memory = ctypes.create_string_buffer(128 + 64)
    address = ctypes.addressof(memory) + 63 & ~63
    rank = len(dimensions)
    _call("cuTensorMapEncodeTiled", ctypes.c_void_p(address), ctypes.c_int(9), ctypes.c_uint32(rank),
          ctypes.c_void_p(tensor.data_ptr()), (ctypes.c_uint64 * rank)(*dimensions),
          (ctypes.c_uint64 * (rank - 1))(*[s * 2 for s in strides]), (ctypes.c_uint32 * rank)(*box),
          (ctypes.c_uint32 * rank)(*[1] * rank), ctypes.c_int(0), ctypes.c_int(3), ctypes.c_int(2), ctypes.c_int(0))
    return ctypes.string_at(address, 128)


def capture(body):
    """A graph of what body() launches."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.graph(graph, stream=stream):
        body()
    return graph


def median_us(graph, operations, replays=15):
    """Median time of one of the operations in the graph."""
    for _ in range(2):
        graph.replay()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(replays)]
    for begin, end in events:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    times = sorted(begin.elapsed_time(end) for begin, end in events)
    return times[len(times) // 2] * 1000 / operations
