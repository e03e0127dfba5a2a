"""Population templates: average images and probability maps of a set of labelled scans."""
