"""What atlases give to the training of a network: priors, warped scans, labels of unlabelled scans."""
