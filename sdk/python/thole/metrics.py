"""Counters, gauges and histograms of a rank. They lie in a mapped file that the platform named, and outlive a kill.

    images = metrics.counter("digits_images", "Images trained on.")
    images.add(32)
    loss = metrics.gauge("digits_loss", "Training loss.", labels=("part",)).labels("train")
    loss.set(0.31)

Where libthole or its metrics service is not there, they count into nothing, so that a script runs anywhere.
"""
from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, sizeof
from typing import Any, Dict, Optional, Sequence, Tuple

from . import _abi, _native
from .errors import TholeError

__all__ = ["Counter", "Gauge", "Histogram", "counter", "gauge", "histogram", "render"]

# One writer a process: cells are read and written under this lock, which is all that Python's threads need.
_lock = threading.Lock()


def _service() -> Optional[Tuple[_native.Core, Any]]:
    try:
        core = _native.core()
    except TholeError as error:
        if error.reason == "LibraryMissing":
            return None
        raise
    api = core.service("metrics")
    return None if api is None else (core, api)


class _Family:
    kind = 0

    def __init__(self, name: str, help: str, unit: str, labels: Sequence[str], bounds: Sequence[float] = ()) -> None:
        self.name, self.label_names = name, tuple(labels)
        self._definition = (name, help, unit, tuple(bounds))
        self._series: Dict[Tuple[str, ...], Any] = {}
        self._number: Optional[int] = None
        self._core: Optional[_native.Core] = None

    def labels(self, *values: str) -> Any:
        """The series with these label values, in the order of the names."""
        if len(values) != len(self.label_names):
            raise TholeError("THOLE_INVALID", "MetricBad", f"{self.name} has the labels {self.label_names}, not {len(values)} values")
        return _Series(self, tuple(str(v) for v in values))

    @property
    def _own(self) -> Any:
        return self.labels()

    def cell(self, values: Tuple[str, ...]) -> Optional[_abi.thole_cell]:
        """The memory of a series; None where there is no service. A fork or a closed core makes it anew. [with the lock]"""
        found = _service()
        if found is None:
            return None
        core, api = found
        if core is not self._core:
            self._series, self._core, self._number = {}, core, self._define(core, api)
        if values not in self._series:
            texts = (_abi.thole_str * max(1, len(values)))(*[_native.text(v) for v in values])
            given = _abi.thole_list(ctypes.cast(texts, ctypes.c_void_p), len(values), sizeof(_abi.thole_str))
            at = POINTER(_abi.thole_cell)()
            _native.check(api.bind, core.handle, self._number, byref(given), byref(at))
            self._series[values] = at.contents
        return self._series[values]

    def _define(self, core: _native.Core, api: Any) -> int:
        name, help, unit, bounds = self._definition
        texts = (_abi.thole_str * max(1, len(self.label_names)))(*[_native.text(v) for v in self.label_names])
        limits = (ctypes.c_double * max(1, len(bounds)))(*bounds)
        family = _native.sized(
            _abi.thole_family, name=_native.text(name), help=_native.text(help), unit=_native.text(unit), kind=self.kind,
            labels=_abi.thole_list(ctypes.cast(texts, ctypes.c_void_p), len(self.label_names), sizeof(_abi.thole_str)),
            bounds=limits, bound_count=len(bounds))
        number = ctypes.c_uint32()
        _native.check(api.define, core.handle, byref(family), byref(number))
        return number.value


class _Series:
    def __init__(self, family: _Family, values: Tuple[str, ...]) -> None:
        self._family, self._values = family, values

    def _change(self, change: Any) -> None:
        with _lock:
            cell = self._family.cell(self._values)
            if cell is not None:
                change(cell)

    def add(self, amount: float = 1.0) -> None:
        if self._family.kind == _abi.THOLE_METRIC_COUNTER and not amount >= 0:
            raise TholeError("THOLE_INVALID", "MetricBad", f"{self._family.name} is a counter: {amount} would take it back")

        def change(cell: _abi.thole_cell) -> None:
            cell.value += amount

        self._change(change)

    def set(self, value: float) -> None:
        def change(cell: _abi.thole_cell) -> None:
            cell.value = value

        self._change(change)

    def observe(self, value: float) -> None:
        def change(cell: _abi.thole_cell) -> None:
            i = 0
            while i < cell.bound_count and not value <= cell.bounds[i]:  # a NaN is below no bound
                i += 1
            cell.buckets[i] += 1
            cell.count += 1
            cell.value += value

        self._change(change)


class Counter(_Family):
    kind = _abi.THOLE_METRIC_COUNTER

    def add(self, amount: float = 1.0) -> None:
        self._own.add(amount)


class Gauge(_Family):
    kind = _abi.THOLE_METRIC_GAUGE

    def set(self, value: float) -> None:
        self._own.set(value)

    def add(self, amount: float) -> None:
        self._own.add(amount)


class Histogram(_Family):
    kind = _abi.THOLE_METRIC_HISTOGRAM

    def observe(self, value: float) -> None:
        self._own.observe(value)


def counter(name: str, help: str, unit: str = "", labels: Sequence[str] = ()) -> Counter:
    """Only grows. `name` is without "_total", which the text form adds."""
    return Counter(name, help, unit, labels)


def gauge(name: str, help: str, unit: str = "", labels: Sequence[str] = ()) -> Gauge:
    return Gauge(name, help, unit, labels)


def histogram(name: str, help: str, bounds: Sequence[float], unit: str = "", labels: Sequence[str] = ()) -> Histogram:
    """Counts in buckets: `bounds` are their upper ends, rising, without the infinite one."""
    return Histogram(name, help, unit, labels, bounds)


def render() -> str:
    """All series of this process as OpenMetrics text; "" where there is no service."""
    found = _service()
    if found is None:
        return ""
    core, api = found
    text = _abi.thole_str()
    memory = _native.check_with_room(api.render, core.handle, byref(text))
    out = _native.read(text)
    del memory
    return out
