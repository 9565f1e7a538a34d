"""Training of face VAEs: what ``python train/run.py`` is made of. Imports betavae, never gradio."""
