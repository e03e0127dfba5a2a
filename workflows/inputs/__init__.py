"""Inputs of commands: files, folders, channels and requests."""
