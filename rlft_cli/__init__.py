"""rlft: fine-tune pretrained transformers on NLP tasks with labels and with reactions."""

__version__ = "0.1.0"
