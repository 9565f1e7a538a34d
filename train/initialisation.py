"""How a model's weights start, where a recipe's source says so."""

from torch import nn

from betavae.model import VAE

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def initialise(model: VAE, scheme: str) -> None:
    """Draw the model's convolutions and linear layers anew, and set their biases to 0; with "default" leave them.

    Parameters
    ----------
    scheme : str
        One of ``train.presets.INITS``. "kaiming": normal, for LeakyReLU(0.2), by fan-in (He et al. 2015). "glorot": uniform
        (Glorot & Bengio 2010). "he-glorot": the encoder's convolutions normal, for ReLU (He et al. 2015), all else
        "glorot".
    """
    if scheme == "default":
        return
    for name, layer in model.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        if scheme == "kaiming":
            nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
        elif scheme == "he-glorot" and name.startswith("encoder.blocks"):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
