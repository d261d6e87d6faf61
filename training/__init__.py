"""Layer Router training for fluxd: see training/README.md."""
