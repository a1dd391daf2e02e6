"""Which numbers a row becomes: columns in, sparse rows out, in one slot space that only grows."""

from nearline.features._encoder import Design, Encoder

__all__ = ["Design", "Encoder"]
