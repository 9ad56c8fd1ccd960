"""Tests of twistedetcd.wal."""
