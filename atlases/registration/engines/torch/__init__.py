"""The engine torch, an implementation of our own."""
