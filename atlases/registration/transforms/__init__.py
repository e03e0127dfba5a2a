"""Transforms: files, frames, inverses, what they do to images and points."""
