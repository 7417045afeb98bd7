"""Becomes the module of this name that is installed, or aiomilter's."""

from importlib import import_module

import_module("_aiomilter_elsewhere").give_way(__name__)
