"""Which numbers a row becomes: columns in, sparse rows out, in one slot space that only grows."""

from nearline.features._encoder import Design, Encoder
from nearline.features._growth import Extent, Growth
from nearline.features._row_block import BlockShape, RowBlock
from nearline.features._row_encoder import RowEncoder
from nearline.features._unseen import Unseen

__all__ = ["BlockShape", "Design", "Encoder", "Extent", "Growth", "RowBlock", "RowEncoder", "Unseen"]
