"""Commands for developers: what was measured for the documentation."""
