"""FLOPs, hardware, energy, prices, the ledger and its boundaries. No torch."""
