"""Training in plain torch: what is read, in which order, the loop, and how it goes on after a kill. Knows no Ray."""
