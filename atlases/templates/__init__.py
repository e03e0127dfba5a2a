"""Average images and probability maps of a group of labelled scans."""
