"""Registration: the transform that carries points of one scan to another.

- :mod:`.register`: the one function; :mod:`.stage`: what it is asked for.
- :mod:`.defaults`: transform and engine where the user names none; :mod:`.presets`: what a stage leaves open.
- :mod:`.engines`: one file or folder for each; :mod:`.engines.registry` says how to add one.
- :mod:`.contrast_and_overlap`: when an engine refuses a pair. When a registration of an atlas is judged failed:
  :mod:`atlaseg.atlases.propagation.failed_registrations`.
- :mod:`.transforms`: transforms and their files; :mod:`.points`: landmarks and their files.
"""
