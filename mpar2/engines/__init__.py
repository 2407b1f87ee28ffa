"""What runs a model.

``base``          arms, decoding, generations: what every engine shares
``names``         where checkpoints and adapters are found
``adapter``       LoRA adapters, checked against the model and attached
``processor``     from a clip and messages to the model's inputs, without vision libraries
``checkpoint``    from a name to a loaded model with its adapters
``inputs``        clips and questions to prompts; what the audio encoder heard
``probe``         records attention while a model generates
``decode``        one batch of prompts through a model
``writer``        one row of a batch as it is written, forced lengths and hidden audio with it
``jobs``          what is asked for, as rows, and which rows may share a batch
``transformers``  the engine that runs checkpoints in this process; ``background``, its thread
``server``        the engine that asks OpenAI-compatible servers
``gemini``        the engine that asks Gemini
``as_json``       a generation as plain JSON values

Most modules other than ``base`` import torch and transformers: import them only where a model is really run.
"""
