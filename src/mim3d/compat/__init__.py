"""Readers of other programs' weights."""

from mim3d.compat import openstl as openstl
from mim3d.compat import tensorflow as tensorflow
from mim3d.compat.convert import convert as convert
from mim3d.compat.tensors import read_tensors as read_tensors

__all__ = ["convert", "openstl", "read_tensors", "tensorflow"]
