"""Looking at a store in a browser: pages over a local server, and pages as one file. See docs/viewer.md.

`answers` says what pages ask for, as JSON. `web` is the server's guard, which knows nothing of trajectories. `routes` puts the
two together, and `single` writes the same answers into one HTML file. The page itself is `assets/`: plain ES modules.
"""
