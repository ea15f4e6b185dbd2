"""Problems small enough to enumerate, on which the truth can be computed."""
