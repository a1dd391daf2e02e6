"""Packing that nobody waits for: until its kernels are compiled, or loaded, rows are written by Arrow."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from nearline.features import RowBlock
from nearline.store._columns import Columns, Made
from nearline.store._packed import Packed, Packer

_logger = logging.getLogger("nearline")


class Packing:
    """A `Packer` that is first tried, in a thread of its own, on the first blocks that come; used when that is done.

    The first start after an installation compiles for some seconds, in which requests are answered all the same.

    Attributes
    ----------
    trial
        The thread; None before there were blocks.
    """

    def __init__(self, schema: Any, made: Made) -> None:
        self._schema, self._made = schema, made
        self._packer: Packer | None = None
        self.trial: Thread | None = None

    def pack(self, first: int, parts: Sequence[tuple[int, Columns]]) -> Packed | None:
        """See `Packer.pack`; None before it was tried."""
        if self._packer is not None:
            return self._packer.pack(first, parts)
        if self.trial is None and all(isinstance(columns, RowBlock) for _, columns in parts):
            self.trial = Thread(target=self._try, args=(first, parts), name="nearline-packing", daemon=True)
            self.trial.start()
        return None

    def _try(self, first: int, parts: Sequence[tuple[int, Columns]]) -> None:
        packer = Packer(self._schema, self._made)
        try:
            packed = packer.pack(first, parts)
            if packed is not None:
                with Path(os.devnull).open("wb", buffering=0) as nowhere:
                    packed.store(nowhere.fileno(), 0, first, first)
        except Exception as error:  # slower, not wrong
            _logger.warning("rows are written without compiled code: %s", error)
        else:
            self._packer = packer
