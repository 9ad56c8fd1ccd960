"""Tests of twistedetcd.pb."""
