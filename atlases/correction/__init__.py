"""Corrective learning: correct systematic errors of label fusion."""
