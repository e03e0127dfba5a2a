"""Training data made by atlases for a network: priors, warped scans, pseudo-labels of unlabelled scans."""
