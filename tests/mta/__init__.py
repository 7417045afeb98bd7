"""Tests of aiomilter.mta."""
