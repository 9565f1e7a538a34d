"""Edit faces in the latent space of a beta-VAE."""

from betavae.config import VAEConfig
from betavae.directions import Direction, Directions, DirectionsError
from betavae.editor import Editor
from betavae.hub import ModelError
from betavae.image import ImageError
from betavae.model import VAE, VAEOutput
from betavae.photo import NoFaceError, Photo
from betavae.recipe import Recipe, RecipeError

__all__ = ["VAE", "Direction", "Directions", "DirectionsError", "Editor", "ImageError", "ModelError", "NoFaceError",
           "Photo", "Recipe", "RecipeError", "VAEConfig", "VAEOutput"]
