"""Instruments that take trained networks apart. A new one is a module here and a line below."""

# Each module has `DESCRIPTION`; `EXAMPLES`, how many are looked at by default (0: all; None: it needs no
# network); `OPTIONS`, as `ArgumentParser.add_argument` takes them; and `analyze(request)`.
INSTRUMENTS = {
    "gradients": "activations and gradients of every layer, against depth",
    "layer_chain": "why signals vanish or explode in chains of layers",
    "lesion": "error after deleting and shuffling blocks",
    "paths": "how long the paths are that carry the gradient",
    "landscape": "the loss around a network",
    "deepen": "a deeper network that computes the same function",
    "features": "what each depth sees",
    "curvature": "how the loss curves",
    "ensembles": "predictions averaged over networks",
}
