"""Name and memory of a CUDA device, asked of the driver itself: no library of Python's is needed for two numbers.

Indices mean what they mean to the engine, CUDA_VISIBLE_DEVICES included. Nothing is allocated on the device.

Source: CUDA driver API, `cuDeviceGetName` and `cuDeviceTotalMem`.
"""

from __future__ import annotations

import ctypes

_NAME_BYTES = 256
_BUS_BYTES = 32


def describe_cuda_device(index: int) -> tuple[str, int]:
    """The device's name and memory in bytes; "" and 0 where the driver does not say."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "", 0
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return "", 0
    name = ctypes.create_string_buffer(_NAME_BYTES)
    if driver.cuDeviceGetName(name, _NAME_BYTES, device):
        name.value = b""
    memory = ctypes.c_size_t()
    if driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device):
        memory.value = 0
    return name.value.decode(errors="replace"), memory.value


def free_cuda_bytes(index: int) -> int | None:
    """Memory of the device that nobody has now; None where that cannot be told.

    Asked of the management library, by the bus: the driver itself would have to make a context there first, and it
    counts the devices otherwise. Source: NVML, `nvmlDeviceGetMemoryInfo`.
    """
    try:
        driver, manager = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    device, bus = ctypes.c_int(), ctypes.create_string_buffer(_BUS_BYTES)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return None
    if driver.cuDeviceGetPCIBusId(bus, _BUS_BYTES, device) or manager.nvmlInit_v2():
        return None
    handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
    if manager.nvmlDeviceGetHandleByPciBusId_v2(bus, ctypes.byref(handle)):
        return None
    return None if manager.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) else int(memory[1])
