"""The experiments of this study: what each numbered notebook runs and measures."""
