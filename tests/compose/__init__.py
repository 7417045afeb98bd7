"""Tests of compositions."""
