"""The methods of segmentation as commands see them."""
