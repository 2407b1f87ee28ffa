"""What runs a model.

``base``          arms, decoding, generations: what every engine shares
``names``         where checkpoints and adapters are found
``adapter``       LoRA adapters, checked against the model and attached
``processor``     from a clip and messages to the model's inputs, without vision libraries
``checkpoint``    from a name to a loaded model with its adapters
``inputs``        clips and questions to prompts; what the audio encoder heard
``probe``         records attention while a model generates
``decode``        one batch of prompts through a model
``transformers``  the engine that runs checkpoints in this process

Modules other than ``base`` import torch and transformers: import them only where a model is really run.
"""
