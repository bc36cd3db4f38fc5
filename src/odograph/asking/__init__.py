"""Asking models over HTTP: bounds, retries, a budget, answers that are never paid twice. Knows no trajectory and no store."""
