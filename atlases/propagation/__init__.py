"""Atlases carried to a scan.

- :mod:`.propagation`: all atlases of a set; :mod:`.carrying`: one of them, in a process of its own.
- :mod:`.linear_start`, :mod:`.selection`: where the bending begins, and which atlases are worth it.
- :mod:`.failed_registrations`: when a registration is judged failed; by :mod:`.quality`, :mod:`.similarity`.
- :mod:`.work_folder`: finished registrations, kept on disk.
"""
