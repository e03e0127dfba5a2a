"""Registration, label fusion and priors; the names below are what scripts need, loaded when first used."""
