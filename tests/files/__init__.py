"""Tests of twistedetcd.files."""
