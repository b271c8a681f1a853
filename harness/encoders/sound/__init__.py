"""Sound into features: log-mel spectra, MFCC, eGeMAPS, pooled to steps."""
