"""Inference on this machine, measured: latency, throughput, memory and energy under constraints."""
