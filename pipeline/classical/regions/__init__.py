"""Regions: grown, compared, merged."""
